package taskgrant.exchange_test.base

import rego.v1

import data.taskgrant.exchange

within := {
	"requested": {"scopes": ["orders:read"], "resources": ["https://orders.acme.example"]},
	"ceiling": {
		"scopes": ["orders:read", "refunds:write"],
		"resources": ["https://orders.acme.example"],
	},
}

test_what_the_ceilings_allow_is_allowed if {
	exchange.allow with input as within
}

test_a_scope_beyond_the_ceiling_is_not_allowed if {
	beyond := json.remove(within, ["ceiling/scopes/0"])
	not exchange.allow with input as beyond
}

test_a_resource_beyond_the_ceiling_is_not_allowed if {
	beyond := json.remove(within, ["ceiling/resources/0"])
	not exchange.allow with input as beyond
}

test_an_empty_input_is_not_allowed if {
	not exchange.allow with input as {}
}
