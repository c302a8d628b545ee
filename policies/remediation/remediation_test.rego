package taskgrant.exchange_test.remediation

import rego.v1

import data.taskgrant.exchange

actions := {
	"block_public_access",
	"change_iam",
	"change_network",
	"delete",
	"label",
	"open_ticket",
	"rotate_secret",
}

rules := {
	"rollback_plans": {"undo": {
		"actions": ["block_public_access", "change_iam", "change_network", "delete", "rotate_secret"],
		"verification": "look",
	}},
	"risk": {
		"automatic_up_to": 40,
		"refuse_above": 90,
		"weights": {
			"action": {
				"open_ticket": 0,
				"label": 0,
				"block_public_access": 10,
				"rotate_secret": 10,
				"change_network": 20,
				"change_iam": 25,
				"delete": 30,
			},
			"blast_radius": {"low": 0, "medium": 10, "high": 40},
			"criticality": {"low": 0, "medium": 10, "high": 20},
			"data_class": {"public": 0, "internal": 5, "restricted": 15},
			"environment": {"development": 0, "staging": 5, "production": 20},
			"exposure": {"internal": 0, "public": 10},
		},
	},
}

asset := {
	"owner": "group:reporting",
	"environment": "staging",
	"criticality": "low",
	"data_class": "internal",
	"exposure": "internal",
	"blast_radius": "low",
}

production := {"environment": "production"}

assets(changes) := {"thing": object.union(asset, changes)}

detail(action) := {
	"type": "remediation",
	"actions": [action],
	"asset": "thing",
	"rollback_plan": "undo",
	"verification": "look",
	"notify": "group:reporting",
}

asked(details) := {
	"task": {"type": "repair", "labels": {"domain": "remediation"}},
	"requested": {
		"scopes": ["infra:change"],
		"resources": [],
		"exchange_only": false,
		"authorization_details": details,
	},
	"ceiling": {"scopes": ["infra:change"], "resources": []},
	"claimed": {},
}

ask(action) := asked([detail(action)])

bent(action, changes) := asked([object.union(detail(action), changes)])

without(action, member) := asked([json.remove(detail(action), [member])])

codes := {reason.code | some reason in exchange.deny}

asks := {reason.code | some reason in exchange.require_approval}

test_within_the_ceilings_it_is_allowed if {
	exchange.allow with input as ask("label") with data.remediation as rules with data.assets as assets({})
	beyond := object.union(ask("label"), {"ceiling": {"scopes": []}})
	not allowed_alone with input as beyond with data.remediation as rules with data.assets as assets({})
}

allowed_alone if {
	exchange.allow
	input.requested.scopes[0] in input.ceiling.scopes
}

test_outside_production_everything_low_is_automatic if {
	every action in actions - {"delete"} {
		codes == set() with input as ask(action) with data.remediation as rules with data.assets as assets({})
		asks == set() with input as ask(action) with data.remediation as rules with data.assets as assets({})
	}
}

test_labels_and_tickets_are_automatic_and_need_no_plan if {
	every action in ["label", "open_ticket"] {
		every environment in ["staging", "production"] {
			found := assets({"environment": environment, "criticality": "high", "data_class": "restricted"})
			bare := asked([{"type": "remediation", "actions": [action], "asset": "thing"}])
			codes == set() with input as bare with data.remediation as rules with data.assets as found
			asks == set() with input as bare with data.remediation as rules with data.assets as found
		}
	}
}

test_no_rollback_plan_no_action if {
	every action in actions - {"label", "open_ticket"} {
		every request in [without(action, "rollback_plan"), bent(action, {"rollback_plan": "hope"}), bent(action, {"rollback_plan": ["undo"]})] {
			"rollback_plan_missing" in codes with input as request with data.remediation as rules with data.assets as assets({})
		}
	}
	other := object.union(rules, {"rollback_plans": {"undo": {"actions": ["delete"]}}})
	codes == {"rollback_plan_missing"} with input as ask("change_iam") with data.remediation as other
		with data.assets as assets({})
}

test_no_verification_no_action if {
	every action in actions - {"label", "open_ticket"} {
		every request in [without(action, "verification"), bent(action, {"verification": ""}), bent(action, {"verification": "trust me"})] {
			codes == {"verification_missing"} with input as request with data.remediation as rules with data.assets as assets({})
		}
	}
}

test_what_the_agent_claims_is_no_plan if {
	told := object.union(without("change_iam", "rollback_plan"), {"claimed": {
		"rollback_plan": "undo",
		"risk": 0,
		"environment": "staging",
	}})
	"rollback_plan_missing" in codes with input as told with data.remediation as rules with data.assets as assets({})
	production_told := object.union(ask("delete"), {"claimed": {"environment": "staging"}})
	codes == {"production_delete"} with input as production_told with data.remediation as rules
		with data.assets as assets(production)
}

test_public_access_is_blocked_at_once_outside_production_only if {
	asks == set() with input as ask("block_public_access") with data.remediation as rules
		with data.assets as assets({"exposure": "public"})
	asks == {"production_change"} with input as ask("block_public_access") with data.remediation as rules
		with data.assets as assets(production)
}

test_people_approve_changes_in_production if {
	every action in ["change_iam", "change_network"] {
		"production_change" in asks with input as ask(action) with data.remediation as rules
			with data.assets as assets(production)
	}
}

test_what_is_not_told_to_be_something_else_is_production if {
	every environment in ["prod", "Production", null] {
		"production_change" in asks with input as ask("change_iam") with data.remediation as rules
			with data.assets as assets({"environment": environment})
		"production_delete" in codes with input as ask("delete") with data.remediation as rules
			with data.assets as assets({"environment": environment})
	}
}

test_nothing_is_deleted_in_production if {
	codes == {"production_delete"} with input as ask("delete") with data.remediation as rules
		with data.assets as assets(production)
	codes == set() with input as ask("delete") with data.remediation as rules with data.assets as assets({})
	asks == {"deletion"} with input as ask("delete") with data.remediation as rules with data.assets as assets({})
}

test_secrets_of_low_risk_are_rotated_at_once_and_the_owner_knows if {
	low := assets(production)
	asks == set() with input as ask("rotate_secret") with data.remediation as rules with data.assets as low
	codes == set() with input as ask("rotate_secret") with data.remediation as rules with data.assets as low
	every request in [without("rotate_secret", "notify"), bent("rotate_secret", {"notify": "group:nobody"})] {
		codes == {"owner_not_notified"} with input as request with data.remediation as rules with data.assets as low
	}
	risky := assets({"environment": "production", "criticality": "high"})
	asks == {"risk_needs_approval"} with input as ask("rotate_secret") with data.remediation as rules with data.assets as risky
}

test_an_asset_without_owner_has_nobody_to_notify if {
	orphan := {"thing": json.remove(asset, ["owner"])}
	every request in [without("rotate_secret", "notify"), ask("rotate_secret")] {
		codes == {"owner_not_notified"} with input as request with data.remediation as rules with data.assets as orphan
	}
}

test_a_high_blast_radius_is_denied_whatever_the_action if {
	every action in actions - {"open_ticket"} {
		"blast_radius_high" in codes with input as ask(action) with data.remediation as rules
			with data.assets as assets({"blast_radius": "high"})
	}
	codes == set() with input as ask("open_ticket") with data.remediation as rules
		with data.assets as assets({"blast_radius": "high"})
}

test_a_high_risk_is_denied if {
	worst := assets({
		"environment": "production",
		"criticality": "high",
		"data_class": "restricted",
		"exposure": "public",
		"blast_radius": "medium",
	})
	codes == {"risk_too_high"} with input as ask("change_iam") with data.remediation as rules with data.assets as worst
}

test_the_decision_shows_every_input_and_weight if {
	shown := {
		"risk:action=change_iam:25",
		"risk:blast_radius=low:0",
		"risk:criticality=low:0",
		"risk:data_class=internal:5",
		"risk:environment=production:20",
		"risk:exposure=internal:0",
		"risk:score=50",
	}
	told := exchange.tags with input as ask("change_iam") with data.remediation as rules
		with data.assets as assets(production)
	shown == {tag | some tag in told; startswith(tag, "risk:")}
	reasons := exchange.require_approval with input as ask("change_iam") with data.remediation as rules
		with data.assets as assets(production)
	some reason in reasons
	reason.code == "risk_needs_approval"
	endswith(reason.message, "50: action=change_iam:25, blast_radius=low:0, criticality=low:0, data_class=internal:5, environment=production:20, exposure=internal:0")
}

test_a_risk_that_cannot_be_told_is_denied if {
	every member in ["blast_radius", "criticality", "data_class", "environment", "exposure"] {
		every found in [{"thing": json.remove(asset, [member])}, assets({member: "odd"}), assets({member: 0})] {
			"risk_unknown" in codes with input as ask("label") with data.remediation as rules with data.assets as found
		}
	}
	less := json.remove(rules, ["risk/weights/action/label"])
	codes == {"risk_unknown"} with input as ask("label") with data.remediation as less with data.assets as assets({})
}

test_unknown_actions_and_assets if {
	codes == {"action_unknown", "risk_unknown", "rollback_plan_missing"} with input as ask("reboot") with data.remediation as rules
		with data.assets as assets({})
	codes == {"asset_unknown"} with input as bent("label", {"asset": "other"}) with data.remediation as rules
		with data.assets as assets({})
	codes == {"asset_unknown"} with input as ask("label") with data.remediation as rules with data.assets as {"thing": 7}
}

test_one_action_on_one_asset if {
	every details in [
		[],
		[detail("label"), detail("label")],
		[{"type": "remediation"}],
		[object.union(detail("label"), {"actions": ["label", "delete"]})],
		[object.union(detail("label"), {"actions": []})],
		[object.union(detail("label"), {"actions": "label"})],
		[object.union(detail("label"), {"actions": [7]})],
		[object.union(detail("label"), {"asset": ["thing"]})],
		[json.remove(detail("label"), ["asset"])],
	] {
		codes == {"remediation_not_one"} with input as asked(details) with data.remediation as rules
			with data.assets as assets({})
	}
}

test_a_remedy_under_another_task_type_is_looked_at_too if {
	hidden := object.union(ask("delete"), {"task": {"labels": {"domain": "support"}}})
	"production_delete" in codes with input as hidden with data.remediation as rules with data.assets as assets(production)
	other := object.union(asked([{"type": "tool_call"}]), {"task": {"labels": {"domain": "support"}}})
	codes == set() with input as other with data.remediation as rules with data.assets as assets(production)
}

test_a_token_that_no_service_accepts_is_judged_later if {
	wide := object.union(asked([]), {"requested": {"exchange_only": true}})
	codes == set() with input as wide with data.remediation as rules with data.assets as assets({})
}

test_without_sound_data_nothing_is_remedied if {
	malformed := [
		{},
		false,
		{"rollback_plans": rules.rollback_plans},
		object.union(rules, {"weights": {}}),
		object.union(rules, {"rollback_plans": []}),
		json.remove(rules, ["rollback_plans/undo/verification"]),
		object.union(rules, {"rollback_plans": {"undo": {"verification": ""}}}),
		object.union(rules, {"risk": {"automatic_up_to": "40"}}),
		object.union(rules, {"risk": {"refuse_above": null}}),
		object.union(rules, {"risk": {"weights": {"exposure": 3}}}),
		object.union(rules, {"risk": {"weights": {"exposure": {"public": "10"}}}}),
		object.union(rules, {"risk": {"weights": {"exposure": {"public": -10}}}}),
		json.remove(rules, ["risk/weights/criticality"]),
	]
	passed := [document |
		some document in malformed
		not "remediation_data" in codes with input as ask("label") with data.remediation as document
			with data.assets as assets({})
	]
	passed == []
	"remediation_data" in codes with input as ask("label") with data.remediation as rules with data.assets as ["thing"]
}
