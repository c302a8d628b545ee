package taskgrant.exchange_test.support

import rego.v1

import data.taskgrant.exchange

codes(reasons) := {reason.code | some reason in reasons}

export(groups) := {
	"principal": {"groups": groups},
	"actor": {"class": "support"},
	"task": {"type": "export_customers", "labels": {}},
}

labelled(class, labels) := {
	"principal": {"groups": []},
	"actor": {"class": class},
	"task": {"type": "refund_order", "labels": labels},
}

test_an_analyst_may_export if {
	reasons := exchange.deny with input as export(["analysts"])
	count(reasons) == 0
}

test_others_may_not_export if {
	reasons := exchange.deny with input as export(["support"])
	codes(reasons) == {"analysts_only"}
}

test_the_reason_is_public if {
	reasons := exchange.deny with input as export([])
	every reason in reasons {
		reason.public
	}
}

test_a_worker_may_not_touch_restricted_data if {
	reasons := exchange.deny with input as labelled("worker", {"data_class": "restricted"})
	codes(reasons) == {"restricted_data_worker"}
}

test_another_class_may_touch_restricted_data if {
	reasons := exchange.deny with input as labelled("support", {"data_class": "restricted"})
	count(reasons) == 0
}

test_a_high_risk_task_needs_approval if {
	reasons := exchange.require_approval with input as labelled("support", {"risk": "high"})
	codes(reasons) == {"high_risk_task"}
}

test_a_medium_risk_task_needs_none if {
	reasons := exchange.require_approval with input as labelled("support", {"risk": "medium"})
	count(reasons) == 0
}

test_a_worker_token_lives_two_minutes if {
	limits := exchange.limits with input as labelled("worker", {})
	limits == {{"lifetime": 120}}
}
