// SPDX-License-Identifier: GPL-2.0
/*
 * Gives emulated PCIe endpoints what no emulator gives them: ATS, PRI and PASID
 * capabilities, so that the real IOMMU driver runs with PASIDs on them.
 *
 * The capabilities are spliced into configuration space between the PCI core
 * and the device; then the device is removed and found again. Nothing on the
 * device's side knows of them: no DMA will ever carry a PASID.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/version.h>

#define MAX_DEVICES 8

static char *devs[MAX_DEVICES];
static int nr_devs;
module_param_array(devs, charp, &nr_devs, 0444);
MODULE_PARM_DESC(devs, "addresses of the devices (default: every NVMe below a root port)");

/*
 * QEMU (11.1) has no ECAP.SMPWC, without which the Intel driver doesn't do SVA.
 * Offsets in structures that only it knows: from BTF, by tests/guest/btfoff.c.
 */
static int off_iommu = -1, off_flags = -1;
module_param(off_iommu, int, 0444);
MODULE_PARM_DESC(off_iommu, "offset of device_domain_info.iommu, for SVA");
module_param(off_flags, int, 0444);
MODULE_PARM_DESC(off_flags, "offset of intel_iommu.flags, for SVA");
#define VTD_FLAG_SVM_CAPABLE BIT(2)

/*
 * QEMU's AMD IOMMU (11.1) has EFR.PASmax 0, which is one PASID, the RID's, and
 * has neither GIOSup nor EPHSup. Its driver goes by what its instance is said
 * to have, and by its variable `amd_iommu_efr`, whose address kallsyms tells.
 */
static uint pasids;
module_param(pasids, uint, 0444);
MODULE_PARM_DESC(pasids, "how many PASIDs the devices' IOMMU has (default: what it says)");
static ulong efr;
module_param(efr, ulong, 0400);
MODULE_PARM_DESC(efr, "address of amd_iommu_efr, for SVA");
#define FEATURE_GIOSUP BIT_ULL(48)
#define FEATURE_EPHSUP BIT_ULL(50)

/* Far behind what the emulated devices have of their own */
#define BASE	0xe00
#define ATS	(BASE + 0x00)
#define PRI	(BASE + 0x10)
#define PASID	(BASE + 0x20)
#define END	(BASE + 0x30)

#define CAP_HEADER(id, next) ((id) | 1 << 16 | (next) << 20)

static const u32 initial[(END - BASE) / 4] = {
	CAP_HEADER(PCI_EXT_CAP_ID_ATS, PRI),
	PCI_ATS_CAP_PAGE_ALIGNED,		/* queue depth 0: 32 */
	[(PRI - BASE) / 4] =
	CAP_HEADER(PCI_EXT_CAP_ID_PRI, PASID),
	(PCI_PRI_STATUS_STOPPED | PCI_PRI_STATUS_PASID) << 16,
	32,					/* outstanding requests */
	[(PASID - BASE) / 4] =
	CAP_HEADER(PCI_EXT_CAP_ID_PASID, 0),
	PCI_PASID_CAP_EXEC | PCI_PASID_CAP_PRIV | 20 << 8,
};

/* The bits of the control registers that are more than read */
static const u32 writable[(END - BASE) / 4] = {
	[(ATS - BASE) / 4 + 1] = (PCI_ATS_CTRL_ENABLE | 0x1f) << 16,
	[(PRI - BASE) / 4 + 1] = PCI_PRI_CTRL_ENABLE,
	[(PRI - BASE) / 4 + 3] = ~0U,
	[(PASID - BASE) / 4 + 1] = (PCI_PASID_CTRL_ENABLE |
				    PCI_PASID_CTRL_EXEC |
				    PCI_PASID_CTRL_PRIV) << 16,
};

struct endpoint {
	struct pci_bus *bus;
	unsigned int devfn;
	int devcap2, devctl;	/* offsets of these registers */
	int tail;		/* offset of the last capability of its own */
	u32 regs[ARRAY_SIZE(initial)];
};

static struct endpoint endpoints[MAX_DEVICES];
static int nr_endpoints;

/* A bus of which the accessors are wrapped */
static struct wrapped_bus {
	struct pci_bus *bus;
	struct pci_ops *former;
} buses[MAX_DEVICES];
static int nr_buses;

static struct endpoint *find_endpoint(struct pci_bus *bus, unsigned int devfn)
{
	int i;

	for (i = 0; i < nr_endpoints; i++)
		if (endpoints[i].bus == bus && endpoints[i].devfn == devfn)
			return &endpoints[i];
	return NULL;
}

static struct pci_ops *former_ops(struct pci_bus *bus)
{
	int i;

	for (i = 0; i < nr_buses; i++)
		if (buses[i].bus == bus)
			return buses[i].former;
	return NULL;
}

/* What the device is made to say in the aligned dword at @where */
static u32 spliced(struct endpoint *ep, int where, u32 value)
{
	if (where >= BASE && where < END)
		return ep->regs[(where - BASE) / 4];
	if (where == ep->tail)	/* may be a null capability: nothing but "next" */
		return (value & 0xfffff) | 1 << 16 | ATS << 20;
	if (where == ep->devcap2)
		return value | PCI_EXP_DEVCAP2_EE_PREFIX;
	return value;
}

static int spliced_read(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 *val)
{
	struct endpoint *ep = find_endpoint(bus, devfn);
	int shift = (where & 3) * 8, err;
	u32 value;

	if (!ep)
		return former_ops(bus)->read(bus, devfn, where, size, val);
	err = former_ops(bus)->read(bus, devfn, where & ~3, 4, &value);
	if (err)
		return err;
	*val = (spliced(ep, where & ~3, value) >> shift) & GENMASK(size * 8 - 1, 0);
	return PCIBIOS_SUCCESSFUL;
}

static int spliced_write(struct pci_bus *bus, unsigned int devfn, int where,
			 int size, u32 val)
{
	struct endpoint *ep = find_endpoint(bus, devfn);
	int i = (where - BASE) / 4, shift = (where & 3) * 8;
	u32 mask;

	if (ep && where >= BASE && where < END) {
		mask = (GENMASK(size * 8 - 1, 0) << shift) & writable[i];
		ep->regs[i] = (ep->regs[i] & ~mask) | ((val << shift) & mask);
		return PCIBIOS_SUCCESSFUL;
	}
	if (ep && where == ep->devctl && val & PCI_EXP_DEVCTL_BCR_FLR)
		memcpy(ep->regs, initial, sizeof(initial));
	return former_ops(bus)->write(bus, devfn, where, size, val);
}

static struct pci_ops spliced_ops;

static int last_capability(struct pci_dev *pdev)
{
	int pos = PCI_CFG_SPACE_SIZE, hops = 100;
	u32 header;

	while (hops--) {
		pci_read_config_dword(pdev, pos, &header);
		if (!PCI_EXT_CAP_NEXT(header))
			break;
		pos = PCI_EXT_CAP_NEXT(header);
	}
	return pos;
}

static bool wanted(struct pci_dev *pdev)
{
	struct pci_dev *port = pci_upstream_bridge(pdev);
	int i;

	for (i = 0; i < nr_devs; i++)
		if (!strcmp(devs[i], pci_name(pdev)))
			return true;
	return !nr_devs && pdev->class == PCI_CLASS_STORAGE_EXPRESS && port &&
	       pci_pcie_type(port) == PCI_EXP_TYPE_ROOT_PORT;
}

static int wrap(struct pci_dev *pdev)
{
	struct pci_dev *port = pci_upstream_bridge(pdev);
	struct endpoint *ep = &endpoints[nr_endpoints];

	if (!port || !pci_is_pcie(pdev) || nr_endpoints == MAX_DEVICES)
		return -EINVAL;
	/* A real port tells so itself; its children read it here. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	port->eetlp_prefix_max = 4;
#else
	port->eetlp_prefix_path = 1;
#endif
	ep->bus = pdev->bus;
	ep->devfn = pdev->devfn;
	ep->devcap2 = pdev->pcie_cap + PCI_EXP_DEVCAP2;
	ep->devctl = pdev->pcie_cap + PCI_EXP_DEVCTL;
	ep->tail = last_capability(pdev);
	memcpy(ep->regs, initial, sizeof(initial));
	nr_endpoints++;

	if (pdev->bus->ops != &spliced_ops) {
		/* The extended ops (map_bus, add_bus) stay those of the first bus. */
		spliced_ops = *pdev->bus->ops;
		spliced_ops.read = spliced_read;
		spliced_ops.write = spliced_write;
		buses[nr_buses].bus = pdev->bus;
		buses[nr_buses++].former = pdev->bus->ops;
		pci_bus_set_ops(pdev->bus, &spliced_ops);
	}
	return 0;
}

static void allow_sva(struct pci_dev *pdev)
{
	void *info = dev_iommu_priv_get(&pdev->dev);
	void *iommu;

	if (off_iommu < 0 || off_flags < 0 || !info)
		return;
	iommu = *(void **)(info + off_iommu);
	*(u32 *)(iommu + off_flags) |= VTD_FLAG_SVM_CAPABLE;
}

static void allow_pasids(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	struct pci_dev *pdev;
	int i;

	if (efr)
		*(u64 *)efr |= FEATURE_GIOSUP | FEATURE_EPHSUP;
	for (i = 0; pasids && i < nr_endpoints; i++) {
		pdev = pci_get_slot(endpoints[i].bus, endpoints[i].devfn);
		if (pdev && device_iommu_mapped(&pdev->dev))
			pdev->dev.iommu->iommu_dev->max_pasids = pasids;
		pci_dev_put(pdev);
	}
#endif
}

static void replug(void)
{
	struct pci_dev *pdev;
	int i;

	for (i = 0; i < nr_endpoints; i++) {
		pdev = pci_get_slot(endpoints[i].bus, endpoints[i].devfn);
		if (pdev)
			pci_stop_and_remove_bus_device_locked(pdev);
		pci_dev_put(pdev);
	}
	pci_lock_rescan_remove();
	for (i = 0; i < nr_buses; i++)
		pci_rescan_bus(buses[i].bus);
	pci_unlock_rescan_remove();
}

static void report(void)
{
	struct pci_dev *pdev;
	int i;

	for (i = 0; i < nr_endpoints; i++) {
		pdev = pci_get_slot(endpoints[i].bus, endpoints[i].devfn);
		if (!pdev)
			continue;
		if (device_iommu_mapped(&pdev->dev))
			allow_sva(pdev);
		pci_info(pdev, "pasidcap: ATS %s, PRI %s, PASID %s\n",
			 pdev->ats_enabled ? "on" : "off",
			 pdev->pri_enabled ? "on" : "off",
			 pdev->pasid_enabled ? "on" : "off");
		pci_dev_put(pdev);
	}
}

static int __init pasidcap_init(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev)
		if (wanted(pdev) && wrap(pdev))
			pci_err(pdev, "pasidcap: not an endpoint below a port\n");
	if (!nr_endpoints)
		return -ENODEV;
	allow_pasids();
	replug();
	report();
	return 0;
}
module_init(pasidcap_init);

/* No way out: the buses keep these accessors. */

MODULE_DESCRIPTION("ATS, PRI and PASID capabilities for emulated endpoints");
MODULE_LICENSE("GPL");
