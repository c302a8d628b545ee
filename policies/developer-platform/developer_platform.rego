# Developer platform: agents that read and write code, and agents that run pipelines and deploy. Sub-agents read. What is asked for
# is the authorization detail `repository`, which the token binds; scopes, classes and repositories come from
# `data.developer_platform`. How to fill it: docs/how-to/starter-policies.md.
package taskgrant.exchange

import rego.v1

# METADATA
# title: Allow development within the ceilings
# description: So that this folder can stand alone. Beside base it changes nothing.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
allow if {
	input.task.labels.domain == "developer-platform"
	every scope in input.requested.scopes {
		scope in input.ceiling.scopes
	}
	every resource in input.requested.resources {
		resource in input.ceiling.resources
	}
}

# METADATA
# title: Without sound data nothing is developed
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "developer_data",
	"message": concat("", ["the policy data is missing or malformed at ", problem]),
	"public": false,
} if {
	development_task
	some problem in developer_problems
}

# METADATA
# title: Scopes that this policy knows
# description: A scope that is in no list is neither for reading nor for anything else.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "scope_unknown",
	"message": concat("", ["the policy does not know the scope ", scope]),
	"public": true,
} if {
	development_task
	some scope in input.requested.scopes
	not known_scope(scope)
}

# METADATA
# title: Sub-agents read
# description: Neither who was handed a token, nor whom one is handed to, gets more; whether a service accepts it or not.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "sub_agent_writes",
	"message": concat("", ["sub-agents read: the scope ", scope, " is not for them"]),
	"public": true,
} if {
	development_task
	for_sub_agent
	some scope in input.requested.scopes
	not scope in data.developer_platform.scopes.read
}

# METADATA
# title: Beside reading, one repository
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "repository_not_one",
	"message": "ask for one authorization detail of type repository, with one repository",
	"public": true,
} if {
	development
	beyond_reading
	not one_repository
}

# METADATA
# title: Repositories of the tenant
# description: Also for reading, where repositories are named.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "repository_unknown",
	"message": "a repository is not one of the tenant",
	"public": true,
} if {
	development
	some detail in repository_details
	not own_repositories(detail)
}

# METADATA
# title: Code and deployments are of one branch
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "branch_missing",
	"message": "name the branch",
	"public": true,
} if {
	one_repository
	code_or_deployment
	not has_branch
}

# METADATA
# title: One branch has one name
# description: >-
#   What Git would take for a protected branch and this policy for another one: a reference (`refs/heads/main`), a path (`a//main`),
#   a refspec (`+main`, `a:main`), whatever is checked out (`HEAD`). Also for reading: the token binds it.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "branch_name_unclear",
	"message": "name the branch as it is: of letters, digits and `._/-`, without `refs/`, `heads/` or `origin/`, not HEAD",
	"public": true,
} if {
	development
	some detail in repository_details
	is_string(detail.branch)
	detail.branch != ""
	not clear_branch(detail.branch)
}

# METADATA
# title: Code is written by agents for code
# description: A pipeline runs what others have written and reviewed.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "class_may_not_write",
	"message": "agents of this class write no code",
	"public": true,
} if {
	development
	writes_code
	not input.actor.class in data.developer_platform.classes.code
}

# METADATA
# title: Pipelines deploy
# description: Who writes code does not bring it live.
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "class_may_not_deploy",
	"message": "agents of this class deploy nothing",
	"public": true,
} if {
	development
	deploys
	not input.actor.class in data.developer_platform.classes.deploy
}

# METADATA
# title: Production runs protected branches
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
deny contains {
	"code": "branch_not_protected",
	"message": "production is deployed from protected branches only",
	"public": true,
} if {
	one_repository
	deploys
	to_production
	not on_protected_branch
}

# METADATA
# title: People approve changes of protected branches
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
require_approval contains {
	"code": "protected_branch",
	"message": "a change of a protected branch",
	"public": true,
} if {
	one_repository
	writes_code
	on_protected_branch
}

# METADATA
# title: People approve deployments to production
# custom:
#   owner: group:developer-platform
#   review_by: 2027-03-31
require_approval contains {
	"code": "production_deployment",
	"message": "a deployment to production",
	"public": true,
} if {
	one_repository
	deploys
	to_production
}

# By the label of the task type or by what is asked for, whichever is there.
development_task if input.task.labels.domain == "developer-platform"

development_task if {
	some detail in input.requested.authorization_details
	detail.type == "repository"
}

# A token that a service accepts. Another one is judged when it is narrowed.
development if {
	input.requested.exchange_only == false
	development_task
}

# Another agent of the same issuer as the present one stands behind it, or a token is handed on.
for_sub_agent if {
	some place, link in input.chain
	place > 0
	object.get(link, "iss", "") == object.get(input.chain[0], "iss", "")
}

for_sub_agent if input.requested.delegate_to

known_scope(scope) if {
	some scopes in data.developer_platform.scopes
	scope in scopes
}

beyond_reading if {
	some scope in input.requested.scopes
	not scope in data.developer_platform.scopes.read
}

writes_code if {
	some scope in input.requested.scopes
	scope in data.developer_platform.scopes.code
}

deploys if {
	some scope in input.requested.scopes
	scope in data.developer_platform.scopes.deploy
}

code_or_deployment if writes_code

code_or_deployment if deploys

repository_details := [detail |
	some detail in input.requested.authorization_details
	detail.type == "repository"
]

one_repository if {
	development
	count(repository_details) == 1
	is_array(repository_details[0].repositories)
	count(repository_details[0].repositories) == 1
	is_string(repository_details[0].repositories[0])
}

own_repositories(detail) if {
	is_array(detail.repositories)
	count([name | some name in detail.repositories; not own_repository(name)]) == 0
}

# One whose protected branches cannot be told is nobody's.
own_repository(name) if {
	is_object(data.developer_platform.repositories)
	repository = object.get(data.developer_platform.repositories, [name], null)
	is_object(repository)
	repository.tenant == input.tenant.id
	all_branches(repository.protected)
}

# A `/` at the end is all below it.
all_branches(branches) if {
	is_array(branches)
	every branch in branches {
		is_string(branch)
		clear_branch(trim_suffix(branch, "/"))
	}
}

# ^[A-Za-z0-9][A-Za-z0-9._/-]*$, and no other name of something else. A pattern would be compiled for each request.
clear_branch(name) if {
	name != ""
	trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-") == ""
	not begins(name, [".", "_", "/", "-", "refs/", "heads/", "remotes/", "origin/"])
	not ends(name, ["/", ".", ".lock"])
	not contains(name, "..")
	not contains(name, "//")
	not contains(name, "/.")
	lower(name) != "head"
}

begins(name, beginnings) if {
	some beginning in beginnings
	startswith(lower(name), beginning)
}

ends(name, endings) if {
	some ending in endings
	endswith(lower(name), ending)
}

has_branch if {
	is_string(repository_details[0].branch)
	repository_details[0].branch != ""
}

# What is not told to be something else is production.
to_production if not elsewhere

elsewhere if repository_details[0].environment in {"development", "staging", "test"}

# Some file systems and services do not tell `Main` from `main`.
on_protected_branch if {
	has_branch
	own_repository(repository_details[0].repositories[0])
	some pattern in data.developer_platform.repositories[repository_details[0].repositories[0]].protected
	lower(repository_details[0].branch) == lower(pattern)
}

on_protected_branch if {
	has_branch
	own_repository(repository_details[0].repositories[0])
	some pattern in data.developer_platform.repositories[repository_details[0].repositories[0]].protected
	endswith(pattern, "/")
	startswith(lower(repository_details[0].branch), lower(pattern))
}
