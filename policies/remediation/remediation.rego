# Remediation: agents that fix infrastructure, one action on one asset for each token. What is asked for is the authorization detail
# `remediation`, which the token binds; what is known of the asset comes from `data.assets`, and how risks are weighed from
# `data.remediation`. Nothing that the agent says of itself counts. How to fill the data: docs/how-to/starter-policies.md.
package taskgrant.exchange

import rego.v1

# METADATA
# title: Allow remediation within the ceilings
# description: So that this folder can stand alone. Beside base it changes nothing.
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
allow if {
	input.task.labels.domain == "remediation"
	every scope in input.requested.scopes {
		scope in input.ceiling.scopes
	}
	every resource in input.requested.resources {
		resource in input.ceiling.resources
	}
}

# METADATA
# title: Without sound data nothing is remedied
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "remediation_data",
	"message": concat("", ["the policy data is missing or malformed at ", problem]),
	"public": false,
} if {
	remediation
	some problem in remediation_problems
}

# METADATA
# title: One action on one asset
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "remediation_not_one",
	"message": "ask for one authorization detail of type remediation, with one of its actions and an asset",
	"public": true,
} if {
	remediation
	not one_remedy
}

# METADATA
# title: Actions that this policy knows
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "action_unknown",
	"message": "the policy does not know this action",
	"public": true,
} if {
	one_remedy
	not remedy_action in remediation_actions
}

# METADATA
# title: Assets that the inventory knows
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "asset_unknown",
	"message": "the inventory does not know this asset",
	"public": true,
} if {
	one_remedy
	not known_asset
}

# METADATA
# title: No rollback plan, no action
# description: A plan counts when it is in force and is one for this action. Labels and tickets change nothing that runs.
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "rollback_plan_missing",
	"message": "name a rollback plan that is in force for this action",
	"public": true,
} if {
	one_remedy
	not remedy_action in {"label", "open_ticket"}
	not has_rollback_plan
}

# METADATA
# title: No verification, no action
# description: What shows that the action has worked, as the rollback plan tells.
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "verification_missing",
	"message": "name the verification of the rollback plan",
	"public": true,
} if {
	one_remedy
	not remedy_action in {"label", "open_ticket"}
	not has_verification
}

# METADATA
# title: A high blast radius is not for agents
# description: No approval lifts this. A ticket touches nothing but the ticket system.
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "blast_radius_high",
	"message": "the blast radius of this asset is high",
	"public": true,
} if {
	one_remedy
	remedy_action != "open_ticket"
	remedy_asset.blast_radius == "high"
}

# METADATA
# title: Nothing is deleted in production
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "production_delete",
	"message": "agents delete nothing in production",
	"public": true,
} if {
	one_remedy
	remedy_action == "delete"
	remedy_in_production
}

# METADATA
# title: The owner of a secret knows of its rotation
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "owner_not_notified",
	"message": "name the owner of the asset as the one who is notified",
	"public": true,
} if {
	one_remedy
	known_asset
	remedy_action == "rotate_secret"
	not owner_notified
}

# METADATA
# title: A risk that cannot be told is too high
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "risk_unknown",
	"message": concat("", ["the inventory or the weights do not tell ", concat(", ", sort(risk_gaps))]),
	"public": false,
} if {
	one_remedy
	known_asset
	count(risk_gaps) > 0
}

# METADATA
# title: A risk that no person may take
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
deny contains {
	"code": "risk_too_high",
	"message": concat("", ["the risk is ", risk_told]),
	"public": true,
} if {
	risk_score > data.remediation.risk.refuse_above
}

# METADATA
# title: People approve changes of access and network in production
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
require_approval contains {
	"code": "production_change",
	"message": concat("", ["a change of access or network in production; the risk is ", risk_told]),
	"public": true,
} if {
	one_remedy
	remedy_action in {"block_public_access", "change_iam", "change_network"}
	remedy_in_production
}

# METADATA
# title: People approve deletions
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
require_approval contains {
	"code": "deletion",
	"message": concat("", ["a deletion; the risk is ", risk_told]),
	"public": true,
} if {
	one_remedy
	remedy_action == "delete"
}

# METADATA
# title: People approve what is risky
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
require_approval contains {
	"code": "risk_needs_approval",
	"message": concat("", ["the risk is ", risk_told]),
	"public": true,
} if {
	not remedy_action in {"label", "open_ticket"}
	risk_score > data.remediation.risk.automatic_up_to
}

# METADATA
# title: The inputs and weights of the risk, in the decision
# description: One mark for each, such as `risk:environment=production:30`.
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
tags contains concat("", ["risk:", part]) if {
	one_remedy
	some part in risk_parts
}

# METADATA
# title: The risk, in the decision
# custom:
#   owner: group:site-reliability
#   review_by: 2027-03-31
tags contains sprintf("risk:score=%v", [risk_score]) if {
	risk_score >= 0
}

remediation_actions := {
	"block_public_access",
	"change_iam",
	"change_network",
	"delete",
	"label",
	"open_ticket",
	"rotate_secret",
}

# By the label of the task type or by what is asked for, whichever is there. A token that no service accepts is judged when it is
# narrowed.
remediation if {
	input.requested.exchange_only == false
	input.task.labels.domain == "remediation"
}

remediation if {
	input.requested.exchange_only == false
	some detail in input.requested.authorization_details
	detail.type == "remediation"
}

remedies := [detail |
	some detail in input.requested.authorization_details
	detail.type == "remediation"
]

one_remedy if {
	remediation
	count(remedies) == 1
	is_array(remedies[0].actions)
	count(remedies[0].actions) == 1
	is_string(remedies[0].actions[0])
	is_string(remedies[0].asset)
}

remedy_action := remedies[0].actions[0]

remedy_asset := data.assets[remedies[0].asset]

known_asset if is_object(remedy_asset)

# What is not told to be something else is production.
remedy_in_production if {
	known_asset
	not remedy_elsewhere
}

remedy_elsewhere if remedy_asset.environment in {"development", "staging", "test"}

has_rollback_plan if {
	is_string(remedies[0].rollback_plan)
	remedy_action in data.remediation.rollback_plans[remedies[0].rollback_plan].actions
}

has_verification if {
	is_string(remedies[0].verification)
	is_string(remedies[0].rollback_plan)
	remedies[0].verification == data.remediation.rollback_plans[remedies[0].rollback_plan].verification
}

owner_notified if remedies[0].notify == remedy_asset.owner
