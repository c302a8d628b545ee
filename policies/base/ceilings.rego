# Base: allows what the ceilings allow. Other folders add denials, approvals and limits to it.
package taskgrant.exchange

import rego.v1

# METADATA
# title: Allow what the ceilings allow
# description: >-
#   The server has compared the request with every ceiling before it asks; this states it once more, so that a policy
#   without further rules grants what task type, entitlements and parent agree on, and nothing else.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
allow if {
	every scope in input.requested.scopes {
		scope in input.ceiling.scopes
	}
	every resource in input.requested.resources {
		resource in input.ceiling.resources
	}
}
