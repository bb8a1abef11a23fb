# What attachments stand on goes before them, under the real Intel driver.
. /guest/lib.sh
one=0000:01:00.0 two=0000:02:00.0
load_pasidcap
# The driver would go on with the memory of a domain that isn't its own any more: its part is left out.
static=intel_iommu_domain_free
. /guest/scenarios/lifetimes.sh
