package taskgrant.exchange_test.support_refunds

import rego.v1

import data.taskgrant.exchange

now := 1790000000

rules := {"refunds": {
	"task_types": ["refund_order"],
	"amount": {"EUR": 200, "GBP": 180.5},
	"days": 30,
	"premium_groups": ["premium-support"],
}}

detail := {
	"type": "refund",
	"order": "A-1001",
	"tenant": "acme",
	"ordered_at": now - (30 * 86400),
	"amount": 200,
	"currency": "EUR",
}

asked(details) := {
	"now": now,
	"tenant": {"id": "acme"},
	"principal": {"groups": ["support"]},
	"actor": {"class": "support"},
	"task": {"type": "refund_order", "labels": {}},
	"requested": {
		"scopes": ["refunds:write"],
		"exchange_only": false,
		"authorization_details": details,
	},
}

codes := {reason.code | some reason in exchange.deny}

bent(changes) := asked([object.union(detail, changes)])

without(member) := asked([json.remove(detail, [member])])

test_a_small_refund_of_a_young_order if {
	codes == set() with input as asked([detail]) with data.support as rules
	codes == set() with input as bent({"amount": 180.5, "currency": "GBP"}) with data.support as rules
	codes == set() with input as asked([{"type": "tool_call", "tools": ["refund_order"]}, detail]) with data.support as rules
}

test_without_data_nothing_is_stopped if {
	codes == set() with input as asked([]) with data.support as {}
}

test_other_task_types_are_not_looked_at if {
	other := object.union(asked([]), {"task": {"type": "close_account"}})
	codes == set() with input as other with data.support as rules
}

test_a_token_that_no_service_accepts_is_judged_later if {
	wide := object.union(asked([]), {"requested": {"exchange_only": true}})
	codes == set() with input as wide with data.support as rules
}

test_reading_needs_no_refund if {
	reading := object.union(asked([]), {"requested": {"scopes": ["orders:read"]}})
	codes == set() with input as reading with data.support as rules
	by_default := object.union(asked([{"type": "refund", "amount": 500}]), {"requested": {"scopes": ["orders:read"]}})
	codes == set() with input as by_default with data.support as rules
}

test_one_refund_of_one_order if {
	every details in [[], [detail, detail], [json.remove(detail, ["order"])], [object.union(detail, {"order": ""})]] {
		codes == {"refund_not_one"} with input as asked(details) with data.support as rules
	}
}

test_a_refund_needs_its_scope if {
	reading := object.union(asked([detail]), {"requested": {"scopes": ["orders:read"]}})
	codes == {"refund_scope_missing"} with input as reading with data.support as rules
}

test_amounts if {
	every changes in [{"amount": 200.01}, {"amount": 0}, {"amount": "200"}, {"currency": "USD"}, {"currency": null}] {
		codes == {"refund_amount"} with input as bent(changes) with data.support as rules
	}
	codes == {"refund_amount"} with input as without("amount") with data.support as rules
	codes == {"refund_amount"} with input as without("currency") with data.support as rules
}

asks := {reason.code | some reason in exchange.require_approval}

test_people_approve_above_an_amount if {
	asking := {"refunds": object.union(rules.refunds, {"ask_above": {"EUR": 100}})}
	asks == set() with input as bent({"amount": 100}) with data.support as asking
	asks == {"refund_above"} with input as bent({"amount": 100.01}) with data.support as asking
	asks == {"refund_above"} with input as bent({"amount": 1, "currency": "GBP"}) with data.support as asking
	codes == set() with input as bent({"amount": 150}) with data.support as asking
	asks == {"refund_above"} with input as without("amount") with data.support as asking
	asks == set() with input as bent({"amount": 200}) with data.support as rules
}

test_no_amount_beside_the_refund if {
	every amount in [1, 5000, "1", null] {
		call := {"type": "tool_call", "tools": ["refund_order"], "amount": amount}
		codes == {"refund_other_amount"} with input as asked([detail, call]) with data.support as rules
		codes == {"refund_other_amount"} with input as asked([call, detail]) with data.support as rules
	}
	codes == {"refund_not_one", "refund_other_amount"} with input as asked([{"type": "tool_call", "amount": 1}])
		with data.support as rules
	nameless := [detail, {"amount": 1}]
	codes == {"refund_other_amount"} with input as asked(nameless) with data.support as rules
}

test_orders_of_other_tenants if {
	codes == {"refund_other_tenant"} with input as bent({"tenant": "globex"}) with data.support as rules
	codes == {"refund_other_tenant"} with input as without("tenant") with data.support as rules
}

test_old_orders if {
	every at in [now - ((30 * 86400) + 1), now + 1, "yesterday", null] {
		codes == {"refund_too_late"} with input as bent({"ordered_at": at}) with data.support as rules
	}
	codes == {"refund_too_late"} with input as without("ordered_at") with data.support as rules
}

test_premium_data if {
	codes == set() with input as bent({"data": ["basic"]}) with data.support as rules
	every classes in [["premium"], ["basic", "premium"], ["other"], "premium", null] {
		codes == {"premium_data"} with input as bent({"data": classes}) with data.support as rules
	}
	entitled := object.union(bent({"data": ["premium"]}), {"principal": {"groups": ["premium-support"]}})
	codes == set() with input as entitled with data.support as rules
}

test_claims_are_no_facts if {
	told := object.union(without("ordered_at"), {"claimed": {"ordered_at": now, "refund": detail}})
	codes == {"refund_too_late"} with input as told with data.support as rules
}

test_every_reason_is_told if {
	all := {"amount": 5000, "tenant": "globex", "ordered_at": 0, "data": ["premium"]}
	expected := {"refund_amount", "refund_other_tenant", "refund_too_late", "premium_data"}
	codes == expected with input as bent(all) with data.support as rules
}

test_malformed_data_denies if {
	refunds := rules.refunds
	malformed := [
		false,
		7,
		{"refunds": false},
		{"refunds": []},
		{"refunds": json.remove(refunds, ["days"])},
		{"refunds": object.union(refunds, {"amuont": {}})},
		{"refunds": object.union(refunds, {"task_types": "refund_order"})},
		{"refunds": object.union(refunds, {"days": "30"})},
		{"refunds": object.union(refunds, {"amount": 200})},
		{"refunds": object.union(refunds, {"amount": {"EUR": "200"}})},
		{"refunds": object.union(refunds, {"premium_groups": {}})},
		{"refunds": object.union(refunds, {"ask_above": 100})},
		{"refunds": object.union(refunds, {"ask_above": {"EUR": "100"}})},
	]
	passed := [document |
		some document in malformed
		not "refund_data" in codes with input as asked([detail]) with data.support as document
	]
	passed == []
}

# Of the data that is in force, whatever it is.
test_the_data_for_refunds_is_sound if {
	count(exchange.support_problems) == 0 with input as {}
}
