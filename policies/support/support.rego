# Support: the demo rules on top of base, one of each kind.
package taskgrant.exchange

import rego.v1

# METADATA
# title: Only analysts export customers
# custom:
#   owner: group:data-protection
#   review_by: 2027-03-31
deny contains {
	"code": "analysts_only",
	"message": "only members of the group analysts may have customers exported",
	"public": true,
} if {
	input.task.type == "export_customers"
	not "analysts" in input.principal.groups
}

# METADATA
# title: Workers stay away from restricted data
# description: Not public, so that an agent learns nothing about how data is classified.
# custom:
#   owner: group:data-protection
#   review_by: 2027-03-31
deny contains {
	"code": "restricted_data_worker",
	"message": "agents of the class worker may not touch restricted data",
	"public": false,
} if {
	input.task.labels.data_class == "restricted"
	input.actor.class == "worker"
}

# METADATA
# title: People approve high-risk tasks
# custom:
#   owner: group:support-engineering
#   review_by: 2027-03-31
require_approval contains {
	"code": "high_risk_task",
	"message": "this kind of task needs the approval of a person",
	"public": true,
} if {
	input.task.labels.risk == "high"
}

# METADATA
# title: Tokens of workers live two minutes at most
# custom:
#   owner: group:support-engineering
#   review_by: 2027-03-31
limits contains {"lifetime": 120} if {
	input.actor.class == "worker"
}

# METADATA
# title: Mark high-risk decisions in the log
# custom:
#   owner: group:support-engineering
#   review_by: 2027-03-31
tags contains "high_risk" if {
	input.task.labels.risk == "high"
}
