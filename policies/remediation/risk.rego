# The risk of an action on an asset: the sum of one weight for each input. All inputs but the action are the inventory's; the action
# is what the token will bind.
package taskgrant.exchange

import rego.v1

risk_inputs := {"blast_radius", "criticality", "data_class", "environment", "exposure"}

risk_weights contains [name, remedy_asset[name], data.remediation.risk.weights[name][remedy_asset[name]]] if {
	one_remedy
	some name in risk_inputs
	is_string(remedy_asset[name])
	is_number(data.remediation.risk.weights[name][remedy_asset[name]])
}

risk_weights contains ["action", remedy_action, data.remediation.risk.weights.action[remedy_action]] if {
	one_remedy
	is_number(data.remediation.risk.weights.action[remedy_action])
}

risk_parts contains sprintf("%v=%v:%v", weight) if some weight in risk_weights

risk_gaps := (risk_inputs | {"action"}) - {weight[0] | some weight in risk_weights}

# Undefined where an input or a weight is missing.
risk_score := sum([points | some weight in risk_weights; points = weight[2]]) if {
	one_remedy
	count(risk_gaps) == 0
}

risk_told := concat("", risk_words) if one_remedy

# One of both, so that one definition tells the risk.
risk_words contains sprintf("%v: %v", [risk_score, concat(", ", sort(risk_parts))]) if {
	one_remedy
	count(risk_gaps) == 0
}

risk_words contains "unknown" if {
	one_remedy
	count(risk_gaps) > 0
}
