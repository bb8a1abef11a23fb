# What can be seen on this kernel.
iommu-watch doctor
