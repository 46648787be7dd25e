"""HTTP API, VPC link and load balancer as one process, by the rules of the emulated account. The door is `server`."""
