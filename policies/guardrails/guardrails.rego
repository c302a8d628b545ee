# Guardrails: denials, approvals and limits that `data.guardrails` switches on, whatever the task. Without that document nothing
# here has an effect; with one that is malformed everything is denied. How to fill it: docs/how-to/starter-policies.md.
package taskgrant.exchange

import rego.v1

# METADATA
# title: What is wrong with the guardrails' data denies
# description: A guardrail that cannot be read is not taken for one that is off. The message says where it is.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "guardrails_data",
	"message": concat("", ["the policy data is malformed at ", problem]),
	"public": false,
} if {
	some problem in guardrails_problems
}

# METADATA
# title: Blocked agents get nothing, nor does who acts for them
# description: Any actor of the chain, and the agent that a token is handed to.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "agent_blocked",
	"message": concat("", ["the agent ", agent, " is blocked"]),
	"public": true,
} if {
	is_object(data.guardrails.blocked.agents)
	some agent in guardrails_agents
	object.get(data.guardrails.blocked.agents, agent, guardrails_nothing) != guardrails_nothing
}

# METADATA
# title: Nothing is done on behalf of blocked principals
# description: Not public, so that nobody learns from an agent who is watched.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "principal_blocked",
	"message": "the principal is blocked",
	"public": false,
} if {
	is_object(data.guardrails.blocked.principals)
	object.get(data.guardrails.blocked.principals, guardrails_principal, guardrails_nothing) != guardrails_nothing
}

# METADATA
# title: Where agents are listed, no other acts
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "agent_not_listed",
	"message": "this agent may not act in this environment",
	"public": true,
} if {
	guardrails_environment.agents
	not listed_agent
}

# METADATA
# title: Where principals are listed, nothing is done on behalf of others
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "principal_not_listed",
	"message": "nothing may be done on behalf of this principal in this environment",
	"public": true,
} if {
	guardrails_environment.principals
	not listed_principal
}

# METADATA
# title: People only
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "people_only",
	"message": "in this environment agents act on behalf of people only",
	"public": true,
} if {
	guardrails_environment.people_only != false
	input.principal.kind != "human"
}

# METADATA
# title: A login that is strong enough
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "login_too_weak",
	"message": "this environment takes a stronger login",
	"public": true,
} if {
	guardrails_environment.acr
	input.principal.kind == "human"
	not strong_login
}

# METADATA
# title: A login that is fresh enough
# description: Also for what grows from a task later. A session that does not tell when its principal logged in is not fresh.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "login_too_old",
	"message": "this environment takes a fresher login",
	"public": true,
} if {
	guardrails_environment.login_age
	input.principal.kind == "human"
	not fresh_login
}

# METADATA
# title: The token budget of a task
# description: The smaller one, where the task type has a budget of its own. The count may lag behind; exact is `limits.task_tokens`.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "task_budget_spent",
	"message": sprintf("this task has had its %v tokens", [budget]),
	"public": true,
} if {
	is_object(data.guardrails.budgets.task_tokens)
	some name, budget in data.guardrails.budgets.task_tokens
	name in ["any", input.task.type]
	input.stats.task_tokens >= budget
}

# METADATA
# title: The budget of children of one token
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "children_budget_spent",
	"message": sprintf("the parent token has had its %v children", [budget]),
	"public": true,
} if {
	is_object(data.guardrails.budgets.token_children)
	some name, budget in data.guardrails.budgets.token_children
	name in ["any", input.task.type]
	input.stats.token_children >= budget
}

# METADATA
# title: Risky tasks keep business hours
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "outside_business_hours",
	"message": "tasks of this risk run in business hours only",
	"public": true,
} if {
	guardrails_environment.hours
	input.task.labels.risk in guardrails_environment.hours.risk
	not business_hours
}

# METADATA
# title: A query that cannot be looked at
# description: Patterns are looked for in texts; anything else would pass unseen.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "query_unreadable",
	"message": "`claimed.query` is a text, or is left out",
	"public": true,
} if {
	data.guardrails.query
	some "query", query in input.claimed
	not is_string(query)
}

# METADATA
# title: Dangerous queries
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "query_dangerous",
	"message": concat("", ["the query has the dangerous pattern ", pattern]),
	"public": true,
} if {
	all_texts(data.guardrails.query.dangerous)
	is_string(input.claimed.query)
	some pattern in data.guardrails.query.dangerous
	[pattern, true] in guardrails_found
}

# METADATA
# title: Suspicious queries
# description: Not public, so that nobody learns what to avoid.
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
deny contains {
	"code": "query_suspicious",
	"message": concat("", ["the query has the suspicious pattern ", pattern]),
	"public": false,
} if {
	all_texts(data.guardrails.query.suspicious)
	is_string(input.claimed.query)
	some pattern in data.guardrails.query.suspicious
	[pattern, true] in guardrails_found
}

# METADATA
# title: People approve risky tasks
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
require_approval contains {
	"code": "risk_needs_approval",
	"message": "in this environment people approve tasks of this risk",
	"public": true,
} if {
	input.task.labels.risk in guardrails_environment.approval.risk
}

# METADATA
# title: Lifetime by environment
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
limits contains {"lifetime": guardrails_environment.lifetime.any} if {
	guardrails_environment.lifetime.any
	input.requested.exchange_only == false
}

# METADATA
# title: Lifetime by the mode of the task
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
limits contains {"lifetime": guardrails_environment.lifetime.mode[input.task.labels.mode]} if {
	guardrails_environment.lifetime.mode[input.task.labels.mode]
	input.requested.exchange_only == false
}

# METADATA
# title: Lifetime by the risk of the task
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
limits contains {"lifetime": guardrails_environment.lifetime.risk[input.task.labels.risk]} if {
	guardrails_environment.lifetime.risk[input.task.labels.risk]
	input.requested.exchange_only == false
}

# METADATA
# title: Lifetime of tokens that no service accepts
# custom:
#   owner: group:platform-security
#   review_by: 2027-06-30
limits contains {"lifetime": guardrails_environment.lifetime.exchange_only} if {
	guardrails_environment.lifetime.exchange_only
	input.requested.exchange_only == true
}

guardrails_environment := data.guardrails.environments[input.environment]

# A set, which no data document holds.
guardrails_nothing := {"nothing"}

guardrails_principal := concat(" ", [input.principal.iss, input.principal.sub])

guardrails_agents contains link.sub if some link in input.chain

guardrails_agents contains input.requested.delegate_to if input.requested.delegate_to

listed_agent if concat("", ["agent:", input.actor.id]) in guardrails_environment.agents

listed_agent if concat("", ["class:", input.actor.class]) in guardrails_environment.agents

listed_principal if concat("", ["principal:", guardrails_principal]) in guardrails_environment.principals

listed_principal if {
	some group in input.principal.groups
	concat("", ["group:", group]) in guardrails_environment.principals
}

strong_login if input.principal.acr in guardrails_environment.acr

fresh_login if {
	is_number(input.principal.auth_time)
	is_number(guardrails_environment.login_age)
	input.now - input.principal.auth_time <= guardrails_environment.login_age
}

business_hours if {
	is_string(guardrails_environment.hours.zone)
	at = [input.now * 1000000000, guardrails_environment.hours.zone]
	time.weekday(at) in guardrails_environment.hours.days
	hour = time.clock(at)[0]
	hour >= guardrails_environment.hours.from
	hour < guardrails_environment.hours.until
}
