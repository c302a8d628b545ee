# What is missing or wrong in `data.remediation` and `data.assets`. What an asset itself lacks is a matter of that asset:
# `risk_unknown`.
package taskgrant.exchange

import rego.v1

remediation_problems contains "data.assets: it is no object of assets" if not is_object(data.assets)

remediation_problems contains "data.remediation: it is no object" if not is_object(data.remediation)

remediation_problems contains "data.remediation: it is not `risk` and `rollback_plans`" if {
	is_object(data.remediation)
	object.keys(data.remediation) != {"risk", "rollback_plans"}
}

remediation_problems contains "data.remediation.rollback_plans: they are not `actions` and a `verification` each" if {
	is_object(data.remediation)
	not sound_plans(object.get(data.remediation, "rollback_plans", null))
}

remediation_problems contains "data.remediation.risk: it is not `weights`, `automatic_up_to` and `refuse_above`" if {
	is_object(data.remediation)
	not sound_risk(object.get(data.remediation, "risk", null))
}

remediation_problems contains sprintf("data.remediation.risk.weights.%v: it is no object of numbers", [name]) if {
	is_object(data.remediation.risk.weights)
	some name in risk_inputs | {"action"}
	not sound_weights(object.get(data.remediation.risk.weights, name, null))
}

sound_plans(plans) if {
	is_object(plans)
	every plan in plans {
		is_array(plan.actions)
		is_string(plan.verification)
		plan.verification != ""
	}
}

sound_risk(risk) if {
	is_object(risk)
	object.keys(risk) == {"automatic_up_to", "refuse_above", "weights"}
	is_number(risk.automatic_up_to)
	is_number(risk.refuse_above)
	is_object(risk.weights)
}

sound_weights(weights) if {
	is_object(weights)
	every weight in weights {
		is_number(weight)
		weight >= 0
	}
}
