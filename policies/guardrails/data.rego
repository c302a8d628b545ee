# What is wrong with `data.guardrails`, so that a guardrail that cannot be read denies. Shapes are looked at for each request, and
# patterns where there is a query; `data_test.rego` looks at both when a bundle is loaded, and at what zones and days mean.
package taskgrant.exchange

import rego.v1

guardrails_problems contains problem if {
	some problem in misfits("data.guardrails", data.guardrails, {"blocked", "budgets", "environments", "query"})
}

guardrails_problems contains sprintf("data.guardrails.%v: it is no object", [name]) if {
	is_object(data.guardrails)
	some name, value in data.guardrails
	not is_object(value)
}

guardrails_problems contains problem if {
	some problem in misfits("data.guardrails.blocked", data.guardrails.blocked, {"agents", "principals"})
}

guardrails_problems contains sprintf("data.guardrails.blocked.%v: it is no object of names and reasons", [name]) if {
	is_object(data.guardrails.blocked)
	some name, value in data.guardrails.blocked
	not is_object(value)
}

guardrails_problems contains problem if {
	some problem in misfits("data.guardrails.budgets", data.guardrails.budgets, {"task_tokens", "token_children"})
}

guardrails_problems contains sprintf("data.guardrails.budgets.%v: it is no object of counts", [name]) if {
	is_object(data.guardrails.budgets)
	some name, value in data.guardrails.budgets
	not all_numbers(value)
}

guardrails_problems contains problem if {
	some problem in misfits("data.guardrails.query", data.guardrails.query, {"dangerous", "suspicious"})
}

guardrails_problems contains sprintf("data.guardrails.query.%v: it is no list of patterns", [name]) if {
	is_object(data.guardrails.query)
	some name, value in data.guardrails.query
	not all_texts(value)
}

guardrails_problems contains sprintf("data.guardrails.query.%v: this is no regular expression: %v", [name, pattern]) if {
	is_string(input.claimed.query)
	is_object(data.guardrails.query)
	some name, patterns in data.guardrails.query
	all_texts(patterns)
	some pattern in patterns
	not [pattern, true] in guardrails_found
	not [pattern, false] in guardrails_found
}

# What each pattern says of the query: true, false, or nothing where it means nothing (the interpreter, which is strict, fails there).
# Each is compiled once, and only where there is a query.
guardrails_found contains [pattern, found] if {
	is_string(input.claimed.query)
	is_object(data.guardrails.query)
	some _, patterns in data.guardrails.query
	all_texts(patterns)
	some pattern in patterns
	found = regex.match(pattern, input.claimed.query)
}

# Only of the environment that this is: the others decide nothing.
guardrails_problems contains problem if {
	some problem in misfits("data.guardrails.environments of this one", guardrails_environment, {
		"acr",
		"agents",
		"approval",
		"hours",
		"lifetime",
		"login_age",
		"people_only",
		"principals",
	})
}

guardrails_problems contains sprintf("%v of data.guardrails.environments: it is no list", [name]) if {
	is_object(guardrails_environment)
	some name, value in guardrails_environment
	name in {"acr", "agents", "principals"}
	not is_array(value)
}

guardrails_problems contains sprintf("%v of data.guardrails.environments: it is no object", [name]) if {
	is_object(guardrails_environment)
	some name, value in guardrails_environment
	name in {"approval", "hours", "lifetime"}
	not is_object(value)
}

guardrails_problems contains "login_age of data.guardrails.environments: it is no number" if {
	is_object(guardrails_environment)
	some "login_age", value in guardrails_environment
	not is_number(value)
}

guardrails_problems contains "people_only of data.guardrails.environments: it is neither true nor false" if {
	is_object(guardrails_environment)
	some "people_only", value in guardrails_environment
	not is_boolean(value)
}

guardrails_problems contains "approval of data.guardrails.environments: it is more or less than a list `risk`" if {
	is_object(guardrails_environment)
	some "approval", value in guardrails_environment
	not sound_approval(value)
}

guardrails_problems contains "hours of data.guardrails.environments: they are not `risk`, `zone`, `days`, `from` and `until`" if {
	is_object(guardrails_environment)
	some "hours", value in guardrails_environment
	not sound_hours(value)
}

guardrails_problems contains problem if {
	some problem in misfits("lifetime of data.guardrails.environments", guardrails_environment.lifetime, {
		"any",
		"exchange_only",
		"mode",
		"risk",
	})
}

guardrails_problems contains sprintf("lifetime.%v of data.guardrails.environments: it is no number of seconds", [name]) if {
	is_object(guardrails_environment.lifetime)
	some name, value in guardrails_environment.lifetime
	name in {"any", "exchange_only"}
	not is_seconds(value)
}

guardrails_problems contains sprintf("lifetime.%v of data.guardrails.environments: it is no object of seconds", [name]) if {
	is_object(guardrails_environment.lifetime)
	some name, value in guardrails_environment.lifetime
	name in {"mode", "risk"}
	not all_seconds(value)
}

guardrails_problems contains "data.guardrails: it is no object" if guardrails_no_object(data.guardrails)

guardrails_problems contains "data.guardrails.environments of this one: it is no object" if {
	guardrails_no_object(guardrails_environment)
}

# Undefined where there is nothing.
guardrails_no_object(value) if not is_object(value)

# Members of the object `value` that are not among `names`; undefined where it is none.
misfits(place, value, names) := {sprintf("%v: there is no member %v", [place, name]) |
	some name, _ in value
	not name in names
} if {
	is_object(value)
}

all_numbers(value) if {
	is_object(value)
	every number in value {
		is_number(number)
	}
}

all_texts(value) if {
	is_array(value)
	every text in value {
		is_string(text)
	}
}

all_seconds(value) if {
	is_object(value)
	every number in value {
		is_seconds(number)
	}
}

is_seconds(value) if {
	is_number(value)
	value >= 0
	floor(value) == value
}

sound_approval(value) if {
	is_object(value)
	object.keys(value) == {"risk"}
	all_texts(value.risk)
}

sound_hours(value) if {
	is_object(value)
	object.keys(value) == {"days", "from", "risk", "until", "zone"}
	all_texts(value.risk)
	all_texts(value.days)
	is_string(value.zone)
	is_number(value.from)
	is_number(value.until)
	value.from < value.until
}
