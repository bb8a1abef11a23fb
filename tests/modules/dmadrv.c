// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for QEMU's iommu-testdev (1b36:0005), which does DMA on command: it
 * writes to a bus address, through the IOMMU, and tells whether that got there.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci.h>

/* BAR 0 */
#define TRIGGER		0x00	/* a read runs what is armed */
#define ADDRESS_LO	0x04
#define ADDRESS_HI	0x08
#define LENGTH		0x0c
#define RESULT		0x10
#define DOORBELL	0x14	/* 1 arms */
#define TARGET_LO	0x1c	/* where the device looks whether it arrived */
#define TARGET_HI	0x20

#define ARRIVED		0
#define REFUSED		0xdead0002u	/* no translation, or no right */
#define WRITTEN		0x12345678u

struct testdev {
	void __iomem *regs;
	struct page *page;
};

static struct pci_dev *bound;	/* one is enough */
static DEFINE_MUTEX(lock);
#define ORDER		3
static unsigned int pages = 1;	/* mapped at once, 1 << ORDER at most */
static unsigned int arrived, lost, stale, blocked;

/* The device writes the pattern to @iova; @phys is where that is mapped to. */
static u32 do_dma(struct testdev *dev, dma_addr_t iova, phys_addr_t phys)
{
	iowrite32(lower_32_bits(iova), dev->regs + ADDRESS_LO);
	iowrite32(upper_32_bits(iova), dev->regs + ADDRESS_HI);
	iowrite32(lower_32_bits(phys), dev->regs + TARGET_LO);
	iowrite32(upper_32_bits(phys), dev->regs + TARGET_HI);
	iowrite32(sizeof(u32), dev->regs + LENGTH);
	iowrite32(1, dev->regs + DOORBELL);
	ioread32(dev->regs + TRIGGER);
	return ioread32(dev->regs + RESULT);
}

/* One map, DMA and unmap; and DMA once more, which must not arrive any more. */
static int one_round(struct pci_dev *pdev)
{
	struct testdev *dev = pci_get_drvdata(pdev);
	size_t size = clamp(READ_ONCE(pages), 1U, 1U << ORDER) * PAGE_SIZE;
	size_t last = size - PAGE_SIZE;
	u32 *word = page_address(dev->page) + last;
	phys_addr_t phys = page_to_phys(dev->page) + last;
	dma_addr_t iova;

	WRITE_ONCE(*word, 0);
	iova = dma_map_page(&pdev->dev, dev->page, 0, size, DMA_FROM_DEVICE);
	if (dma_mapping_error(&pdev->dev, iova))
		return -EIO;
	if (do_dma(dev, iova + last, phys) == ARRIVED &&
	    READ_ONCE(*word) == WRITTEN)
		arrived++;
	else
		lost++;
	dma_unmap_page(&pdev->dev, iova, size, DMA_FROM_DEVICE);

	if (do_dma(dev, iova + last, phys) == REFUSED)
		blocked++;
	else
		stale++;	/* what lazy flushing allows for a while, or a short flush for good */
	return 0;
}

static int set_rounds(const char *text, const struct kernel_param *kp)
{
	unsigned int rounds;
	int err = kstrtouint(text, 0, &rounds);

	if (err)
		return err;
	mutex_lock(&lock);
	arrived = lost = stale = blocked = 0;
	err = bound ? 0 : -ENODEV;
	while (!err && rounds--) {
		err = one_round(bound);
		cond_resched();
	}
	mutex_unlock(&lock);
	return err;
}

static int get_rounds(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "arrived=%u lost=%u blocked=%u stale=%u\n",
			  arrived, lost, blocked, stale);
}

static const struct kernel_param_ops rounds_ops = {
	.set = set_rounds, .get = get_rounds,
};
module_param_cb(rounds, &rounds_ops, NULL, 0600);
MODULE_PARM_DESC(rounds, "write a number: so many rounds; read: what came of the DMA while mapped, and of that after the unmap");

module_param(pages, uint, 0600);
MODULE_PARM_DESC(pages, "how many pages are mapped at once (default: 1); the DMA goes to the last one");

static int dmadrv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct testdev *dev = devm_kzalloc(&pdev->dev, sizeof(*dev), GFP_KERNEL);
	int err;

	if (!dev)
		return -ENOMEM;
	err = pcim_enable_device(pdev);
	if (err)
		return err;
	dev->regs = pcim_iomap(pdev, 0, 0);
	if (!dev->regs)
		return -ENOMEM;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	dev->page = alloc_pages(GFP_KERNEL, ORDER);
	if (!dev->page)
		return -ENOMEM;
	pci_set_master(pdev);
	pci_set_drvdata(pdev, dev);
	mutex_lock(&lock);
	bound = pdev;
	mutex_unlock(&lock);
	return 0;
}

static void dmadrv_remove(struct pci_dev *pdev)
{
	struct testdev *dev = pci_get_drvdata(pdev);

	mutex_lock(&lock);
	bound = NULL;
	mutex_unlock(&lock);
	pci_clear_master(pdev);
	__free_pages(dev->page, ORDER);
}

static const struct pci_device_id dmadrv_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT, 0x0005) },
	{ }
};

static struct pci_driver dmadrv = {
	.name		= "dmadrv",
	.id_table	= dmadrv_ids,
	.probe		= dmadrv_probe,
	.remove		= dmadrv_remove,
};
module_pci_driver(dmadrv);

MODULE_DESCRIPTION("DMA on command, by QEMU's iommu-testdev");
MODULE_LICENSE("GPL");
