# Of the data that is in force, whatever it is: a bundle with unsound data is not taken, and the one before it goes on.
package taskgrant.exchange_test.developer_platform_data

import rego.v1

import data.taskgrant.exchange

# Without the document the folder is loaded, and denies: there may be no agent that develops anything yet.
test_the_data_for_development_is_sound if {
	problems := [problem |
		is_object(data.developer_platform)
		some problem in exchange.developer_problems with input as {}
	]
	problems == []
}

test_every_repository_tells_its_tenant_and_its_protected_branches if {
	lacking := [name |
		some name, repository in data.developer_platform.repositories
		not sound(repository)
	]
	lacking == []
}

test_no_scope_is_for_reading_and_for_more if {
	both := [scope |
		some kind, scopes in data.developer_platform.scopes
		kind != "read"
		some scope in scopes
		scope in data.developer_platform.scopes.read
	]
	both == []
}

sound(repository) if {
	is_string(repository.tenant)
	is_array(repository.protected)
	exchange.all_branches(repository.protected)
}
