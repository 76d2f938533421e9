"""The I/O manager: names, handles, requests, completion, cancellation, queues."""
