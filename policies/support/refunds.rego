# Refunds: what `data.support.refunds` asks of a token that may refund. Without that document nothing here has an effect. Each fact
# is one of the authorization detail `refund`, so that the token binds it and the refund service compares it with the order it has,
# or is the server's own. How to fill it: docs/how-to/starter-policies.md.
package taskgrant.exchange

import rego.v1

# METADATA
# title: Allow the tasks of support within the ceilings
# description: So that this folder can stand alone. Beside base it changes nothing.
# custom:
#   owner: group:support-engineering
#   review_by: 2027-03-31
allow if {
	input.task.type in {"export_customers", "refund_order"}
	every scope in input.requested.scopes {
		scope in input.ceiling.scopes
	}
	every resource in input.requested.resources {
		resource in input.ceiling.resources
	}
}

# METADATA
# title: What is wrong with the data for refunds denies
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_data",
	"message": concat("", ["the policy data is malformed at ", problem]),
	"public": false,
} if {
	some problem in support_problems
}

# METADATA
# title: A refund is of one order
# description: A token that names several refunds would have each limit once for every one of them.
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_not_one",
	"message": "ask for one authorization detail of type refund, with the order that is refunded",
	"public": true,
} if {
	refunding
	not one_refund
}

# METADATA
# title: A refund needs the scope for it
# description: A detail with an order says what is meant; without the scope the token would look like more than it is.
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_scope_missing",
	"message": "a refund needs the scope refunds:write",
	"public": true,
} if {
	refund_task
	some detail in input.requested.authorization_details
	detail.type == "refund"
	detail.order
	not "refunds:write" in input.requested.scopes
}

# METADATA
# title: Refunds up to an amount
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_amount",
	"message": "the amount is above what an agent may refund in this currency, or it is not told",
	"public": true,
} if {
	one_refund
	not small_refund
}

# METADATA
# title: People approve refunds above an amount
# description: Below it agents refund alone. A currency that is left out of `ask_above` has no such amount, so each refund is asked for.
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
require_approval contains {
	"code": "refund_above",
	"message": "a refund of this amount needs the approval of a person",
	"public": true,
} if {
	one_refund
	"ask_above" in object.keys(data.support.refunds)
	not unasked_refund
}

# METADATA
# title: One amount
# description: A service that reads the amount of another detail would refund what nobody has compared with the limit.
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_other_amount",
	"message": "beside the refund, no authorization detail has an amount",
	"public": true,
} if {
	refunding
	some detail in input.requested.authorization_details
	is_object(detail)
	not detail.type == "refund"
	"amount" in object.keys(detail)
}

# METADATA
# title: Refunds of the tenant's own orders
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_other_tenant",
	"message": "the order is not one of the principal's tenant, or its tenant is not told",
	"public": true,
} if {
	one_refund
	not own_order
}

# METADATA
# title: Refunds of young orders
# custom:
#   owner: group:payments-platform
#   review_by: 2027-03-31
deny contains {
	"code": "refund_too_late",
	"message": "the order is too old to be refunded by an agent, or its time is not told",
	"public": true,
} if {
	one_refund
	not young_order
}

# METADATA
# title: Premium data for those who are entitled to it
# custom:
#   owner: group:data-protection
#   review_by: 2027-03-31
deny contains {
	"code": "premium_data",
	"message": "premium data is for members of the groups that are entitled to it",
	"public": true,
} if {
	one_refund
	not plain_data
	not entitled_to_premium
}

refund_task if {
	input.requested.exchange_only == false
	is_object(data.support.refunds)
	input.task.type in data.support.refunds.task_types
}

# A token that a service would refund by. One that no service accepts is judged when it is narrowed.
refunding if {
	refund_task
	"refunds:write" in input.requested.scopes
}

one_refund if {
	refunding
	count(refunds) == 1
	is_string(refunds[0].order)
	refunds[0].order != ""
}

refunds := [detail |
	some detail in input.requested.authorization_details
	detail.type == "refund"
]

small_refund if {
	is_number(refunds[0].amount)
	refunds[0].amount > 0
	is_string(refunds[0].currency)
	is_number(data.support.refunds.amount[refunds[0].currency])
	refunds[0].amount <= data.support.refunds.amount[refunds[0].currency]
}

unasked_refund if {
	is_number(refunds[0].amount)
	is_number(data.support.refunds.ask_above[refunds[0].currency])
	refunds[0].amount <= data.support.refunds.ask_above[refunds[0].currency]
}

own_order if refunds[0].tenant == input.tenant.id

young_order if {
	is_number(refunds[0].ordered_at)
	is_number(data.support.refunds.days)
	refunds[0].ordered_at <= input.now
	input.now - refunds[0].ordered_at <= data.support.refunds.days * 86400
}

plain_data if not "data" in object.keys(refunds[0])

plain_data if {
	is_array(refunds[0].data)
	every class in refunds[0].data {
		class == "basic"
	}
}

entitled_to_premium if {
	some group in input.principal.groups
	group in data.support.refunds.premium_groups
}

support_problems contains "data.support.refunds: it is not `task_types`, `amount`, `days`, `premium_groups` and perhaps `ask_above`" if {
	is_object(data.support)
	some "refunds", value in data.support
	not sound_refunds(value)
}

support_problems contains "data.support: it is no object" if no_object(data.support)

# Undefined where there is nothing.
no_object(value) if not is_object(value)

sound_refunds(value) if {
	is_object(value)
	object.keys(value) - {"ask_above"} == {"amount", "days", "premium_groups", "task_types"}
	is_array(value.task_types)
	is_array(value.premium_groups)
	is_number(value.days)
	is_object(value.amount)
	every limit in value.amount {
		is_number(limit)
	}
	sound_ask_above(value)
}

sound_ask_above(value) if not "ask_above" in object.keys(value)

sound_ask_above(value) if {
	is_object(value.ask_above)
	every limit in value.ask_above {
		is_number(limit)
	}
}
