//! Pods on a cluster: kind, or any other by its kube context. `docs/adr/0004-the-cluster-backend.md` says who sees what.
