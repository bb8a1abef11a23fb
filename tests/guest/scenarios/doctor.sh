# What can be seen on this kernel, and what is checked.
. /guest/lib.sh
phase doctor
told iommu-watch doctor --format json
phase every-driver
told iommu-watch doctor --every-driver --format json
phase checks
told iommu-watch checks
phase explained
told iommu-watch checks pasid-left-on-release
