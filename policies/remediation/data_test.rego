# Of the data that is in force, whatever it is: a bundle with unsound data is not taken, and the one before it goes on.
package taskgrant.exchange_test.remediation_data

import rego.v1

import data.taskgrant.exchange

# Without both documents the folder is loaded, and denies: there may be no agent that remedies anything yet.
given if is_object(data.assets)

given if is_object(data.remediation)

test_the_data_for_remediation_is_sound if {
	problems := [problem |
		given
		some problem in exchange.remediation_problems with input as {}
	]
	problems == []
}

test_every_asset_tells_its_owner_and_its_risk if {
	lacking := [name |
		some name, asset in data.assets
		some member in exchange.risk_inputs | {"owner"}
		not is_string(asset[member])
	]
	lacking == []
}
