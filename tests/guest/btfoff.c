// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * btfoff STRUCT.MEMBER... - byte offsets of members, a line each, from the
 * running kernel's BTF (BTF_FILE overrides it). Looks into anonymous members.
 * Exits with 1 when one isn't there.
 *
 * btfoff -without NAME... >FILE - the same BTF, of a kernel that has no function
 * and no tracepoint of these names: they have another one.
 */
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct btf_header *header;
static const struct btf_type **types;
static unsigned int nr_types;
static const char *strings;

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

static char *slurp(const char *path)
{
	size_t size = 0, space = 1 << 20, got;
	char *data = malloc(space);
	FILE *file = fopen(path, "r");

	if (!file)
		return NULL;
	while (data && (got = fread(data + size, 1, space - size, file))) {
		size += got;
		if (size == space)
			data = realloc(data, space *= 2);
	}
	fclose(file);
	return size > sizeof(*header) ? data : NULL;
}

static int index_types(const char *data)
{
	const char *pos, *end;

	header = (const void *)data;
	if (header->magic != BTF_MAGIC)
		return -1;
	strings = data + header->hdr_len + header->str_off;
	pos = data + header->hdr_len + header->type_off;
	end = pos + header->type_len;
	types = calloc(header->type_len / sizeof(**types) + 1, sizeof(*types));
	if (!types)
		return -1;
	for (nr_types = 1; pos < end; nr_types++) {
		types[nr_types] = (const void *)pos;
		pos += sizeof(**types) + payload(types[nr_types]);
	}
	return 0;
}

/* The offset in bits, or -1 */
static long find_member(const struct btf_type *t, const char *name)
{
	const struct btf_member *m = (const void *)(t + 1);
	unsigned int i;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++, m++) {
		unsigned int offset = BTF_INFO_KFLAG(t->info) ?
			BTF_MEMBER_BIT_OFFSET(m->offset) : m->offset;
		const struct btf_type *inner = types[m->type];
		unsigned int kind = BTF_INFO_KIND(inner->info);
		long in;

		if (m->name_off && !strcmp(strings + m->name_off, name))
			return offset;
		if (m->name_off || (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION))
			continue;
		in = find_member(inner, name);
		if (in >= 0)
			return offset + in;
	}
	return -1;
}

static long find(const char *type, const char *member)
{
	unsigned int i;
	long offset;

	for (i = 1; i < nr_types; i++) {
		if (BTF_INFO_KIND(types[i]->info) != BTF_KIND_STRUCT ||
		    strcmp(strings + types[i]->name_off, type))
			continue;
		offset = find_member(types[i], member);
		if (offset >= 0)
			return offset / 8;
	}
	return -1;
}

/* Leaves the first letter of the name out: no other string need be made. */
static int rename_all(const char *name)
{
	const char tracepoint[] = "btf_trace_";
	unsigned int i, renamed = 0;

	for (i = 1; i < nr_types; i++) {
		struct btf_type *t = (void *)types[i];
		const char *own = strings + t->name_off;
		unsigned int kind = BTF_INFO_KIND(t->info);

		if ((kind == BTF_KIND_FUNC && !strcmp(own, name)) ||
		    (kind == BTF_KIND_TYPEDEF && !strncmp(own, tracepoint, sizeof(tracepoint) - 1) &&
		     !strcmp(own + sizeof(tracepoint) - 1, name))) {
			t->name_off++;
			renamed++;
		}
	}
	return renamed;
}

static int without(const char *data, char **names)
{
	size_t size = header->hdr_len;
	int missing = 0;

	size += header->type_off + header->type_len > header->str_off + header->str_len ?
		header->type_off + header->type_len : header->str_off + header->str_len;
	for (; *names; names++) {
		if (rename_all(*names))
			continue;
		fprintf(stderr, "btfoff: no %s\n", *names);
		missing = 1;
	}
	return fwrite(data, 1, size, stdout) != size || missing;
}

int main(int argc, char **argv)
{
	const char *path = getenv("BTF_FILE") ?: "/sys/kernel/btf/vmlinux";
	char *data = slurp(path), *member;
	int i, missing = 0;
	long offset;

	if (!data || index_types(data)) {
		fprintf(stderr, "btfoff: %s: no BTF\n", path);
		return 1;
	}
	if (argc > 1 && !strcmp(argv[1], "-without"))
		return without(data, argv + 2);
	for (i = 1; i < argc; i++) {
		member = strchr(argv[i], '.');
		if (!member) {
			fprintf(stderr, "btfoff: %s: not STRUCT.MEMBER\n", argv[i]);
			return 1;
		}
		*member++ = '\0';
		offset = find(argv[i], member);
		missing |= offset < 0;
		printf("%ld\n", offset);
	}
	return missing;
}
