package taskgrant.exchange_test.guardrails

import rego.v1

import data.taskgrant.exchange

# Monday, 21 September 2026, 14:13:20 UTC.
monday := 1790000000

asked := {
	"environment": "production",
	"now": monday,
	"principal": {
		"iss": "https://idp.acme.example",
		"sub": "ada",
		"kind": "human",
		"groups": ["support"],
		"acr": "aal2",
		"auth_time": monday - 600,
	},
	"actor": {"id": "order-worker", "class": "worker"},
	"chain": [{"sub": "order-worker"}, {"sub": "support-agent"}],
	"task": {"type": "refund_order", "labels": {"risk": "high", "mode": "autonomous"}},
	"requested": {"exchange_only": false},
	"stats": {"task_tokens": 7, "token_children": 3},
	"claimed": {"query": "orders of Ada; DROP  TABLE orders"},
}

codes := {reason.code | some reason in exchange.deny}

production(rules) := {"environments": {"production": rules}}

hours := {"risk": ["high"], "zone": "Europe/Berlin", "days": ["Monday"], "from": 8, "until": 18}

test_without_data_nothing_is_stopped if {
	codes == set() with input as asked with data.guardrails as {}
}

test_another_environment_has_its_own_rules if {
	codes == set() with input as asked with data.guardrails as {"environments": {"test": {"agents": []}}}
}

test_blocked_agents if {
	every agent in ["order-worker", "support-agent"] {
		codes == {"agent_blocked"} with input as asked with data.guardrails as {"blocked": {"agents": {agent: "INC-7"}}}
	}
	codes == set() with input as asked with data.guardrails as {"blocked": {"agents": {"other": "INC-7"}}}
}

test_whatever_stands_beside_a_name_blocks_it if {
	every why in [null, false, "", 0, {}] {
		codes == {"agent_blocked"} with input as asked with data.guardrails as {"blocked": {"agents": {"order-worker": why}}}
	}
}

test_nothing_is_handed_to_a_blocked_agent if {
	handing := object.union(asked, {"requested": {"delegate_to": "rogue"}})
	codes == {"agent_blocked"} with input as handing with data.guardrails as {"blocked": {"agents": {"rogue": "INC-7"}}}
}

test_blocked_principals if {
	ada := {"blocked": {"principals": {"https://idp.acme.example ada": "left"}}}
	codes == {"principal_blocked"} with input as asked with data.guardrails as ada
	elsewhere := {"blocked": {"principals": {"https://idp.other.example ada": "left"}}}
	codes == set() with input as asked with data.guardrails as elsewhere
}

test_listed_agents if {
	every listed in [["agent:order-worker"], ["class:worker"]] {
		codes == set() with input as asked with data.guardrails as production({"agents": listed})
	}
	every listed in [[], ["order-worker"], ["agent:worker"], ["class:support"]] {
		codes == {"agent_not_listed"} with input as asked with data.guardrails as production({"agents": listed})
	}
}

test_listed_principals if {
	every listed in [["group:support"], ["principal:https://idp.acme.example ada"]] {
		codes == set() with input as asked with data.guardrails as production({"principals": listed})
	}
	every listed in [[], ["support"], ["group:sales"], ["principal:https://idp.acme.example bob"]] {
		codes == {"principal_not_listed"} with input as asked with data.guardrails as production({"principals": listed})
	}
}

test_people_only if {
	workload := object.union(asked, {"principal": {"kind": "workload"}})
	codes == {"people_only"} with input as workload with data.guardrails as production({"people_only": true})
	codes == set() with input as workload with data.guardrails as production({"people_only": false})
	codes == set() with input as asked with data.guardrails as production({"people_only": true})
}

test_strong_logins if {
	codes == set() with input as asked with data.guardrails as production({"acr": ["aal2", "aal3"]})
	codes == {"login_too_weak"} with input as asked with data.guardrails as production({"acr": ["aal3"]})
	untold := json.remove(asked, ["principal/acr"])
	codes == {"login_too_weak"} with input as untold with data.guardrails as production({"acr": ["aal2"]})
}

test_fresh_logins if {
	codes == set() with input as asked with data.guardrails as production({"login_age": 600})
	codes == {"login_too_old"} with input as asked with data.guardrails as production({"login_age": 599})
	untold := json.remove(asked, ["principal/auth_time"])
	codes == {"login_too_old"} with input as untold with data.guardrails as production({"login_age": 600})
}

test_a_workload_has_no_login_to_look_at if {
	workload := object.union(asked, {"principal": {"kind": "workload", "acr": "", "auth_time": 0}})
	codes == set() with input as workload with data.guardrails as production({"login_age": 600, "acr": ["aal2"]})
}

test_budgets_of_tasks if {
	codes == set() with input as asked with data.guardrails as {"budgets": {"task_tokens": {"any": 8}}}
	codes == set() with input as asked with data.guardrails as {"budgets": {"task_tokens": {"export_customers": 1}}}
	every budget in [{"any": 7}, {"refund_order": 7}, {"any": 100, "refund_order": 5}] {
		codes == {"task_budget_spent"} with input as asked with data.guardrails as {"budgets": {"task_tokens": budget}}
	}
}

test_budgets_of_children if {
	codes == set() with input as asked with data.guardrails as {"budgets": {"token_children": {"any": 4}}}
	every budget in [{"any": 3}, {"refund_order": 0}] {
		codes == {"children_budget_spent"} with input as asked with data.guardrails as {"budgets": {"token_children": budget}}
	}
}

test_business_hours if {
	at := {"before": -29601, "first": -29600, "last": 6399, "after": 6400, "tuesday": 86400}
	open := {when |
		some when, later in at
		codes == set() with input as object.union(asked, {"now": monday + later})
			with data.guardrails as production({"hours": hours})
	}
	open == {"first", "last"}
}

test_business_hours_are_for_risky_tasks if {
	night := object.union(asked, {"now": monday + 40000, "task": {"labels": {"risk": "low"}}})
	codes == set() with input as night with data.guardrails as production({"hours": hours})
}

test_queries if {
	dangerous := {"query": {"dangerous": ["(?i)drop\\s+table"]}}
	codes == {"query_dangerous"} with input as asked with data.guardrails as dangerous
	suspicious := {"query": {"suspicious": ["(?i)drop\\s+table", "another"]}}
	codes == {"query_suspicious"} with input as asked with data.guardrails as suspicious
	harmless := object.union(asked, {"claimed": {"query": "orders of Ada"}})
	codes == set() with input as harmless with data.guardrails as object.union(dangerous, suspicious)
	silent := object.union(json.remove(asked, ["claimed/query"]), {"claimed": {"intent": "drop table"}})
	codes == set() with input as silent with data.guardrails as dangerous
}

test_a_query_that_is_no_text if {
	every query in [null, false, 7, ["DROP TABLE"], {"sql": "DROP TABLE"}] {
		codes == {"query_unreadable"} with input as object.union(asked, {"claimed": {"query": query}})
			with data.guardrails as {"query": {"dangerous": ["DROP"]}}
	}
}

test_people_approve_risky_tasks if {
	asks := {reason.code | some reason in exchange.require_approval} with input as asked
		with data.guardrails as production({"approval": {"risk": ["high"]}})
	"risk_needs_approval" in asks
	lets := {reason.code | some reason in exchange.require_approval} with input as asked
		with data.guardrails as production({"approval": {"risk": ["critical"]}})
	not "risk_needs_approval" in lets
}

test_lifetimes if {
	lifetime := {"any": 301, "mode": {"autonomous": 61, "attended": 122}, "risk": {"high": 91}, "exchange_only": 907}
	limits := exchange.limits with input as asked with data.guardrails as production({"lifetime": lifetime})
	{301, 61, 91} == {limit.lifetime | some limit in limits; limit.lifetime in {301, 61, 91, 122, 907}}
	wide := object.union(asked, {"requested": {"exchange_only": true}})
	limits_of_wide := exchange.limits with input as wide with data.guardrails as production({"lifetime": lifetime})
	{907} == {limit.lifetime | some limit in limits_of_wide; limit.lifetime in {301, 61, 91, 122, 907}}
}

malformed := [
	false,
	[],
	{"blokced": {}},
	{"blocked": ["order-worker"]},
	{"blocked": {"agent": {}}},
	{"blocked": {"agents": ["order-worker"]}},
	{"blocked": {"principals": null}},
	{"budgets": 7},
	{"budgets": {"task_tokens": 7}},
	{"budgets": {"token_children": {"any": "7"}}},
	{"budgets": {"task_rate": {"any": 7}}},
	{"query": {"dangerous": "DROP"}},
	{"query": {"suspicious": [7]}},
	{"query": {"harmless": []}},
	{"environments": null},
	{"environments": {"production": false}},
	{"environments": {"production": {"agent": []}}},
	{"environments": {"production": {"agents": "agent:order-worker"}}},
	{"environments": {"production": {"principals": {}}}},
	{"environments": {"production": {"acr": false}}},
	{"environments": {"production": {"login_age": "1h"}}},
	{"environments": {"production": {"people_only": "yes"}}},
	{"environments": {"production": {"approval": {"risk": "high"}}}},
	{"environments": {"production": {"approval": ["high"]}}},
	{"environments": {"production": {"hours": {"from": 8, "until": 18}}}},
	{"environments": {"production": {"hours": object.union(hours, {"until": 8})}}},
	{"environments": {"production": {"hours": object.union(hours, {"holidays": []})}}},
	{"environments": {"production": {"lifetime": 60}}},
	{"environments": {"production": {"lifetime": {"any": false}}}},
	{"environments": {"production": {"lifetime": {"any": 0.5}}}},
	{"environments": {"production": {"lifetime": {"mode": 60}}}},
	{"environments": {"production": {"lifetime": {"risk": {"high": -1}}}}},
	{"environments": {"production": {"lifetime": {"other": 60}}}},
]

# One that is none denies; the interpreter, which is strict where it runs tests, fails there instead.
test_patterns_that_find_nothing_are_no_problem if {
	asking := object.union(asked, {"claimed": {"query": "orders of Ada"}})
	every name in ["dangerous", "suspicious"] {
		sound := {"query": {name: ["harmless", "(?i)x+"]}}
		not "guardrails_data" in codes with input as asking with data.guardrails as sound
	}
}

test_malformed_data_denies if {
	passed := [document |
		some document in malformed
		not "guardrails_data" in codes with input as asked with data.guardrails as document
	]
	passed == []
}
