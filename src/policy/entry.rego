# METADATA
# title: Entry
# description: >-
#   Defaults and the decision. Bundles are of this package too; they add `allow` rules and members of the sets
#   `deny`, `require_approval`, `limits` and `tags`, and define nothing else by these names. This is the package's only
#   annotation: OPA admits one for a package, whatever the number of its modules.
# custom:
#   owner: taskgrant
package taskgrant.exchange

import rego.v1

default allow := false

deny contains {} if false

require_approval contains {} if false

limits contains {} if false

tags contains {} if false

decision := {
	"allow": allow,
	"deny": deny,
	"require_approval": require_approval,
	"limits": limits,
	"tags": tags,
}
