//! What sysfs tells of groups and devices.
