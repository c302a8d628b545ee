# Answers a Kubernetes admission review (admission.k8s.io/v1): images come from our registry with a digest, and no container is
# privileged.
package kubernetes.admission

import rego.v1

registry := "registry.acme.example/"

containers contains container if {
	some kind in ["initContainers", "containers"]
	some container in input.request.object.spec[kind]
}

deny contains message if {
	some container in containers
	not startswith(container.image, registry)
	message := sprintf("container %s: image %s is not of %s", [container.name, container.image, registry])
}

deny contains message if {
	some container in containers
	not contains(container.image, "@sha256:")
	message := sprintf("container %s: image %s has no digest", [container.name, container.image])
}

deny contains message if {
	some container in containers
	container.securityContext.privileged
	message := sprintf("container %s is privileged", [container.name])
}

default allowed := false

allowed if count(deny) == 0

review := {
	"apiVersion": "admission.k8s.io/v1",
	"kind": "AdmissionReview",
	"response": object.union({"uid": input.request.uid, "allowed": allowed}, status),
}

default status := {}

status := {"status": {"code": 403, "message": concat("; ", sort(deny))}} if count(deny) > 0
