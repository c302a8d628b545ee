# Of the data that is in force, whatever it is: a bundle with unsound data is not taken, and the one before it goes on.
package taskgrant.exchange_test.guardrails_data

import rego.v1

import data.taskgrant.exchange

weekdays := {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

environments contains name if some name, _ in data.guardrails.environments

environments contains "no environment"

test_the_guardrails_have_sound_shapes if {
	count({problem |
		some name in environments
		some problem in exchange.guardrails_problems with input as {"environment": name}
	}) == 0
}

test_the_patterns_for_queries_are_regular_expressions if {
	count([pattern |
		some patterns in data.guardrails.query
		some pattern in patterns
		not regex.is_valid(pattern)
	]) == 0
}

test_business_hours_are_of_known_zones_and_days if {
	count([hours |
		some environment in data.guardrails.environments
		hours := environment.hours
		not known(hours)
	]) == 0
}

test_allow_lists_name_agents_and_principals_by_kind if {
	count([entry |
		some environment in data.guardrails.environments
		some name, prefixes in {"agents": ["agent:", "class:"], "principals": ["group:", "principal:"]}
		some entry in environment[name]
		not begins(entry, prefixes)
	]) == 0
}

known(hours) if {
	not hours.zone in {"", "Local"}
	is_array(time.clock([0, hours.zone]))
	every day in hours.days {
		day in weekdays
	}
	hours.from >= 0
	hours.until <= 24
}

begins(entry, prefixes) if {
	some prefix in prefixes
	startswith(entry, prefix)
}
