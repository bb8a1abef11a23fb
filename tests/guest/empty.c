// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * empty tp_btf|raw_tp|fentry|fexit NAME - an eBPF program that does nothing, on
 * a tracepoint or a function, until standard input ends. Says "attached".
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char log_text[65536];

/* How long a type is, behind its head. */
static size_t payload(const struct btf_type *t)
{
	unsigned int n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	case 19:	/* BTF_KIND_ENUM64, newer than some headers */
		return n * 12;
	default:
		return 0;
	}
}

/* The id of a type in the kernel's BTF, 0: there is none. */
static unsigned int find(const char *name, unsigned int kind)
{
	static char data[16 << 20];
	FILE *file = fopen("/sys/kernel/btf/vmlinux", "r");
	size_t size = file ? fread(data, 1, sizeof(data), file) : 0;
	const struct btf_header *header = (void *)data;
	const char *at, *end, *strings;
	unsigned int id = 1;

	if (size < sizeof(*header))
		return 0;
	at = data + header->hdr_len + header->type_off;
	end = at + header->type_len;
	strings = data + header->hdr_len + header->str_off;
	for (; at < end; id++) {
		const struct btf_type *t = (void *)at;

		if (BTF_INFO_KIND(t->info) == kind && !strcmp(strings + t->name_off, name))
			return id;
		at += sizeof(*t) + payload(t);
	}
	return 0;
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

int main(int argc, char **argv)
{
	struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_TRACING,
		.insns = (unsigned long)nothing,
		.insn_cnt = 2,
		.license = (unsigned long)"GPL",
		.log_buf = (unsigned long)log_text,
		.log_size = sizeof(log_text),
		.log_level = 1,
	};
	union bpf_attr attach = { 0 };
	const char *kind = argc == 3 ? argv[1] : "", *target = argc == 3 ? argv[2] : "";
	char name[128];

	if (!strcmp(kind, "tp_btf")) {
		snprintf(name, sizeof(name), "btf_trace_%s", target);
		load.expected_attach_type = BPF_TRACE_RAW_TP;
		load.attach_btf_id = find(name, BTF_KIND_TYPEDEF);
	} else if (!strcmp(kind, "raw_tp")) {
		load.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
		attach.raw_tracepoint.name = (unsigned long)target;
	} else if (!strcmp(kind, "fentry") || !strcmp(kind, "fexit")) {
		load.expected_attach_type = kind[2] == 'n' ? BPF_TRACE_FENTRY : BPF_TRACE_FEXIT;
		load.attach_btf_id = find(target, BTF_KIND_FUNC);
	} else {
		fprintf(stderr, "usage: empty tp_btf|raw_tp|fentry|fexit NAME\n");
		return 2;
	}
	attach.raw_tracepoint.prog_fd = bpf(BPF_PROG_LOAD, &load);
	if ((int)attach.raw_tracepoint.prog_fd < 0) {
		perror("load");
		fputs(log_text, stderr);
		return 1;
	}
	if (bpf(BPF_RAW_TRACEPOINT_OPEN, &attach) < 0) {
		perror("attach");
		return 1;
	}
	puts("attached");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
