"""What an IRP, a driver, a device is: data and rules only. No threads, no clock, no descriptors."""
