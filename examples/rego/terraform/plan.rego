# Asks a Terraform plan (`terraform show -json PLAN`) before it is applied: nothing that keeps data is destroyed, and no door is
# opened to the world.
package terraform.plan

import rego.v1

keeps_data := {"aws_db_instance", "aws_s3_bucket", "aws_dynamodb_table"}

deny contains message if {
	some change in input.resource_changes
	change.type in keeps_data
	"delete" in change.change.actions
	message := sprintf("%s keeps data and would be destroyed", [change.address])
}

deny contains message if {
	some change in input.resource_changes
	change.type == "aws_security_group_rule"
	change.change.after.type == "ingress"
	"0.0.0.0/0" in change.change.after.cidr_blocks
	not change.change.after.to_port == 443
	message := sprintf("%s opens port %d to the world", [change.address, change.change.after.to_port])
}

# How many resources each kind of action touches.
counts[action] := count(addresses) if {
	some action in {"create", "update", "delete"}
	addresses := {change.address | some change in input.resource_changes; action in change.change.actions}
}
