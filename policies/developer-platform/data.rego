# What is missing or wrong in `data.developer_platform`.
package taskgrant.exchange

import rego.v1

developer_problems contains "data.developer_platform: it is not `classes`, `repositories` and `scopes`" if {
	not is_object(data.developer_platform)
}

developer_problems contains "data.developer_platform: it is not `classes`, `repositories` and `scopes`" if {
	is_object(data.developer_platform)
	object.keys(data.developer_platform) != {"classes", "repositories", "scopes"}
}

developer_problems contains "data.developer_platform.scopes: they are not the lists `read`, `code`, `run` and `deploy`" if {
	is_object(data.developer_platform)
	not named_lists(object.get(data.developer_platform, "scopes", null), {"code", "deploy", "read", "run"})
}

developer_problems contains "data.developer_platform.classes: they are not the lists `code` and `deploy`" if {
	is_object(data.developer_platform)
	not named_lists(object.get(data.developer_platform, "classes", null), {"code", "deploy"})
}

developer_problems contains "data.developer_platform.repositories: they are not a `tenant` and the list `protected` each" if {
	is_object(data.developer_platform)
	not sound_repositories(object.get(data.developer_platform, "repositories", null))
}

named_lists(value, names) if {
	is_object(value)
	object.keys(value) == names
	every list in value {
		is_array(list)
	}
}

sound_repositories(repositories) if is_object(repositories)
