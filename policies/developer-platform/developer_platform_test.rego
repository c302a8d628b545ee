package taskgrant.exchange_test.developer_platform

import rego.v1

import data.taskgrant.exchange

rules := {
	"scopes": {
		"read": ["repo:read", "ci:read"],
		"code": ["repo:write"],
		"run": ["ci:run"],
		"deploy": ["ci:deploy"],
	},
	"classes": {"code": ["coder"], "deploy": ["ci"]},
	"repositories": {
		"acme/shop": {"tenant": "acme", "protected": ["main", "release/"]},
		"globex/site": {"tenant": "globex", "protected": ["main"]},
	},
}

detail := {"type": "repository", "repositories": ["acme/shop"], "branch": "fix-7", "environment": "staging"}

asked(class, scopes, details) := {
	"tenant": {"id": "acme"},
	"actor": {"id": "one", "class": class},
	"chain": [{"sub": "one", "iss": "https://own.example"}],
	"task": {"type": "change_code", "labels": {"domain": "developer-platform"}},
	"requested": {
		"scopes": scopes,
		"resources": [],
		"exchange_only": false,
		"authorization_details": details,
	},
	"ceiling": {"scopes": scopes, "resources": []},
}

write(changes) := asked("coder", ["repo:read", "repo:write"], [object.union(detail, changes)])

deploy(changes) := asked("ci", ["ci:deploy"], [object.union(detail, changes)])

codes := {reason.code | some reason in exchange.deny}

asks := {reason.code | some reason in exchange.require_approval}

test_within_the_ceilings_it_is_allowed if {
	exchange.allow with input as write({}) with data.developer_platform as rules
	not exchange.allow with input as object.union(write({}), {"ceiling": {"scopes": []}}) with data.developer_platform as rules
}

test_a_coder_writes_a_branch if {
	codes == set() with input as write({}) with data.developer_platform as rules
	asks == set() with input as write({}) with data.developer_platform as rules
}

test_people_approve_changes_of_protected_branches if {
	every branch in ["main", "MAIN", "Main", "release/2", "Release/2", "release/2/hotfix"] {
		asks == {"protected_branch"} with input as write({"branch": branch}) with data.developer_platform as rules
	}
	every branch in ["maintenance", "release", "not-main", "feature/main"] {
		asks == set() with input as write({"branch": branch}) with data.developer_platform as rules
	}
}

test_a_pipeline_runs_and_deploys if {
	codes == set() with input as asked("ci", ["ci:run"], [detail]) with data.developer_platform as rules
	codes == set() with input as deploy({}) with data.developer_platform as rules
	asks == set() with input as deploy({}) with data.developer_platform as rules
}

test_people_approve_deployments_to_production if {
	every environment in ["production", "prod", null] {
		asks == {"production_deployment"} with input as deploy({"branch": "main", "environment": environment})
			with data.developer_platform as rules
	}
	untold := asked("ci", ["ci:deploy"], [json.remove(detail, ["environment"])])
	asks == {"production_deployment"} with input as untold with data.developer_platform as rules
}

test_production_is_deployed_from_protected_branches if {
	codes == {"branch_not_protected"} with input as deploy({"environment": "production"}) with data.developer_platform as rules
	codes == set() with input as deploy({"environment": "production", "branch": "release/2"}) with data.developer_platform as rules
}

test_classes if {
	codes == {"class_may_not_write"} with input as object.union(write({}), {"actor": {"class": "ci"}})
		with data.developer_platform as rules
	codes == {"class_may_not_deploy"} with input as object.union(deploy({}), {"actor": {"class": "coder"}})
		with data.developer_platform as rules
}

test_sub_agents_read if {
	chain := {"chain": [{"sub": "two", "iss": "https://own.example"}, {"sub": "one", "iss": "https://own.example"}]}
	codes == {"sub_agent_writes"} with input as object.union(write({}), chain) with data.developer_platform as rules
	unnamed := {"chain": [{"sub": "two"}, {"sub": "one"}]}
	codes == {"sub_agent_writes"} with input as object.union(write({}), unnamed) with data.developer_platform as rules
	codes == {"sub_agent_writes"} with input as object.union(deploy({}), chain) with data.developer_platform as rules
	reading := asked("coder", ["repo:read", "ci:read"], [])
	codes == set() with input as object.union(reading, chain) with data.developer_platform as rules
}

test_no_more_than_reading_is_handed_on if {
	handing := {"requested": {"delegate_to": "two", "exchange_only": true}}
	codes == {"sub_agent_writes"} with input as object.union(write({}), handing) with data.developer_platform as rules
	reading := object.union(asked("coder", ["repo:read"], []), handing)
	codes == set() with input as reading with data.developer_platform as rules
}

test_an_upstream_actor_makes_no_sub_agent if {
	chain := {"chain": [{"sub": "one", "iss": "https://own.example"}, {"sub": "gateway", "iss": "https://idp.example"}]}
	codes == set() with input as object.union(write({}), chain) with data.developer_platform as rules
}

test_reading_needs_no_repository if {
	codes == set() with input as asked("coder", ["repo:read"], []) with data.developer_platform as rules
	named := object.union(detail, {"repositories": ["acme/shop", "globex/site"]})
	codes == {"repository_unknown"} with input as asked("coder", ["repo:read"], [named]) with data.developer_platform as rules
}

test_beside_reading_one_repository if {
	every details in [
		[],
		[detail, detail],
		[object.union(detail, {"repositories": []})],
		[object.union(detail, {"repositories": ["acme/shop", "acme/shop"]})],
	] {
		codes == {"repository_not_one"} with input as asked("coder", ["repo:write"], details) with data.developer_platform as rules
	}
	every repositories in ["acme/shop", null, [7]] {
		"repository_not_one" in codes with input as write({"repositories": repositories}) with data.developer_platform as rules
	}
	codes == {"repository_not_one"} with input as asked("ci", ["ci:run"], []) with data.developer_platform as rules
}

test_repositories_of_the_tenant if {
	every name in ["globex/site", "acme/unknown"] {
		codes == {"repository_unknown"} with input as write({"repositories": [name]}) with data.developer_platform as rules
	}
}

test_code_and_deployments_name_a_branch if {
	every branch in ["", null, ["fix-7"]] {
		codes == {"branch_missing"} with input as write({"branch": branch}) with data.developer_platform as rules
		codes == {"branch_missing"} with input as deploy({"branch": branch}) with data.developer_platform as rules
	}
	bare := asked("ci", ["ci:run"], [json.remove(detail, ["branch"])])
	codes == set() with input as bare with data.developer_platform as rules
}

unclear := {
	"refs/heads/main", "Refs/Heads/main", "heads/main", "origin/main", "remotes/origin/main", "+main", "a:main", "HEAD", "head",
	"main/../main", "release//2", "./main", "a/./main", "/main", "main/", "main.", "main.lock", "-main", "_main", "Main ", " main", "main\n",
	"ma\u200bin", "m\u0430in", "main@{0}", "main~1", "main^", "*",
}

test_a_branch_has_one_name if {
	passed := [branch |
		some branch in unclear
		not codes == {"branch_name_unclear"} with input as write({"branch": branch}) with data.developer_platform as rules
	]
	passed == []
	deployed := [branch |
		some branch in unclear
		not "branch_name_unclear" in codes with input as deploy({"branch": branch}) with data.developer_platform as rules
	]
	deployed == []
	reading := asked("coder", ["repo:read"], [object.union(detail, {"branch": "refs/heads/main"})])
	codes == {"branch_name_unclear"} with input as reading with data.developer_platform as rules
	every branch in ["fix-7", "7", "feature/A_b.c-d", "refsheads", "headsup/1", "lock"] {
		codes == set() with input as write({"branch": branch}) with data.developer_platform as rules
	}
}

test_a_repository_whose_protected_branches_have_no_name_is_nobodys if {
	every branch in ["refs/heads/main", "", "/", "HEAD", 7] {
		odd := object.union(rules, {"repositories": {"acme/shop": {"protected": [branch]}}})
		codes == {"repository_unknown"} with input as write({}) with data.developer_platform as odd
	}
}

test_scopes_of_no_list if {
	codes == {"scope_unknown"} with input as asked("coder", ["repo:admin"], [detail]) with data.developer_platform as rules
}

test_a_repository_under_another_task_type_is_looked_at_too if {
	hidden := object.union(write({"repositories": ["globex/site"]}), {"task": {"labels": {"domain": "support"}}})
	codes == {"repository_unknown"} with input as hidden with data.developer_platform as rules
	other := object.union(asked("coder", ["repo:write"], []), {"task": {"labels": {"domain": "support"}}})
	codes == set() with input as other with data.developer_platform as rules
}

test_without_sound_data_nothing_is_developed if {
	malformed := [
		{},
		false,
		[],
		json.remove(rules, ["classes"]),
		object.union(rules, {"class": {}}),
		json.remove(rules, ["scopes/run"]),
		object.union(rules, {"scopes": {"read": "repo:read"}}),
		object.union(rules, {"scopes": {"write": []}}),
		object.union(rules, {"classes": {"deploy": null}}),
		object.union(rules, {"repositories": ["acme/shop"]}),
	]
	passed := [document |
		some document in malformed
		not "developer_data" in codes with input as write({}) with data.developer_platform as document
	]
	passed == []
}
