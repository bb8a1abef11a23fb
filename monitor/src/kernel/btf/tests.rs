use super::*;

/// Builds BTF as the kernel lays it out.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Builder {
        Builder { strings: vec![0], ..Builder::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn add(&mut self, name: &str, kind: u32, len: u32, size_or_type: u32) -> u32 {
        let name = self.name(name);
        self.words(&[name, kind << 24 | len, size_or_type]);
        self.count += 1;
        self.count
    }

    fn int(&mut self) -> u32 {
        let id = self.add("int", kind::INT, 0, 4);
        self.words(&[32]);
        id
    }

    /// Members as (name, type, place); with `bitfields` the place is `width << 24 | bit`.
    fn aggregate(&mut self, kind: u32, name: &str, bitfields: bool, members: &[(&str, u32, u32)]) -> u32 {
        let id = self.add(name, kind | u32::from(bitfields) << 7, members.len() as u32, 64);
        for (name, kind, place) in members {
            let name = self.name(name);
            self.words(&[name, *kind, *place]);
        }
        id
    }

    fn function(&mut self, name: &str, parameters: &[(&str, u32)]) {
        let proto = self.add("", kind::FUNC_PROTO, parameters.len() as u32, 0);
        for (name, kind) in parameters {
            let name = self.name(name);
            self.words(&[name, *kind]);
        }
        self.add(name, kind::FUNC, 0, proto);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let types = self.types.len() as u32;
        for word in [HEADER_LEN as u32, 0, types, types, self.strings.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).expect("well-formed")
    }
}

fn offset(btf: &Btf, name: &str, path: &str) -> Option<u32> {
    btf.member(name, path).expect("unambiguous").map(|member| member.offset)
}

#[test]
fn a_member_is_found_through_structs_typedefs_and_anonymous_unions() {
    let mut types = Builder::new();
    let int = types.int();
    let array = types.aggregate(kind::STRUCT, "xarray", false, &[("xa_lock", int, 0), ("xa_head", int, 64)]);
    let alias = types.add("xarray_t", kind::TYPEDEF, 0, array);
    let hidden = types.aggregate(kind::UNION, "", false, &[("cookie", int, 0), ("mm", int, 0)]);
    types.aggregate(
        kind::STRUCT,
        "group",
        false,
        &[("id", int, 0), ("pasids", alias, 128), ("", hidden, 256)],
    );
    let btf = types.parse();
    assert_eq!(offset(&btf, "group", "pasids.xa_head"), Some(16 + 8));
    assert_eq!(offset(&btf, "group", "mm"), Some(32));
    assert_eq!(offset(&btf, "group", "id"), Some(0));
}

#[test]
fn a_bitfield_has_a_shift_and_a_width() {
    let mut types = Builder::new();
    let int = types.int();
    let bit = |width: u32, bit: u32| width << 24 | bit;
    types.aggregate(
        kind::STRUCT,
        "pci_dev",
        true,
        &[("devfn", int, bit(0, 0)), ("ats_enabled", int, bit(1, 43))],
    );
    let btf = types.parse();
    let member = btf.member("pci_dev", "ats_enabled").expect("unambiguous").expect("there");
    assert_eq!((member.offset, member.bits), (5, Some((3, 1))));
    let plain = btf.member("pci_dev", "devfn").expect("unambiguous").expect("there");
    assert_eq!((plain.offset, plain.bits), (0, None));
}

#[test]
fn what_the_kernel_does_not_have_is_not_found() {
    let mut types = Builder::new();
    let int = types.int();
    types.aggregate(kind::STRUCT, "group", false, &[("id", int, 0)]);
    let btf = types.parse();
    assert_eq!(btf.member("group", "pasid_array.xa_head"), Ok(None));
    assert_eq!(btf.member("group", "id.x"), Ok(None));
    assert_eq!(btf.member("nothing", "id"), Ok(None));
    assert_eq!(btf.parameters("nothing"), None);
}

#[test]
fn two_structs_of_one_name_are_told_apart_or_refused() {
    let mut types = Builder::new();
    let int = types.int();
    types.aggregate(
        kind::STRUCT,
        "smmu",
        false,
        &[("dev", int, 0), ("v2_only", int, 32), ("features", int, 64)],
    );
    types.aggregate(kind::STRUCT, "smmu", false, &[("dev", int, 0), ("features", int, 128)]);
    let btf = types.parse();
    assert_eq!(offset(&btf, "smmu", "dev"), Some(0), "the same in both");
    assert_eq!(offset(&btf, "smmu", "v2_only"), Some(4), "in one of them only");
    assert!(matches!(btf.member("smmu", "features"), Err(Error::Ambiguous { .. })));
}

#[test]
fn parameters_have_names_and_what_they_point_to() {
    let mut types = Builder::new();
    let int = types.int();
    let device = types.aggregate(kind::STRUCT, "device", false, &[("id", int, 0)]);
    let constant = types.add("", kind::CONST, 0, device);
    let pointer = types.add("", kind::PTR, 0, constant);
    types.function("attach", &[("dev", pointer), ("pasid", int)]);
    let parameters = types.parse().parameters("attach").expect("there");
    assert_eq!(parameters[0], Parameter { name: "dev".into(), points_to: Some("device".into()) });
    assert_eq!(parameters[1], Parameter { name: "pasid".into(), points_to: None });
}

#[test]
fn functions_of_one_name_that_differ_have_no_parameters() {
    let mut types = Builder::new();
    let int = types.int();
    types.function("detach", &[("a", int)]);
    types.function("detach", &[("a", int), ("b", int)]);
    types.function("twice", &[("a", int)]);
    types.function("twice", &[("a", int)]);
    let btf = types.parse();
    assert_eq!(btf.parameters("detach"), None);
    assert_eq!(btf.parameters("twice").map(|list| list.len()), Some(1));
}

#[test]
fn a_skeleton_keeps_the_ids_of_what_is_hooked() {
    let mut types = Builder::new();
    let int = types.int();
    types.aggregate(kind::STRUCT, "device", false, &[("id", int, 0)]);
    types.function("other", &[("a", int)]);
    types.function("attach", &[("a", int)]);
    types.add("btf_trace_add", kind::TYPEDEF, 0, int);
    let whole = types.parse();
    let skeleton = Btf::parse(whole.skeleton(&["attach", "nothing"])).expect("well-formed");
    assert_eq!(skeleton.functions.get("attach".as_bytes()), whole.functions.get("attach".as_bytes()));
    assert_eq!(skeleton.tracepoints, whole.tracepoints);
    assert_eq!(skeleton.functions.len(), 1);
    assert_eq!(skeleton.types.len(), whole.types.len());
}

#[test]
fn a_type_that_contains_itself_is_no_endless_walk() {
    let mut types = Builder::new();
    // Type 1 is a typedef of itself; type 2 holds an anonymous member of its own type.
    types.add("loop", kind::TYPEDEF, 0, 1);
    types.aggregate(kind::STRUCT, "self", false, &[("", 2, 0), ("", 2, 0), ("a", 1, 0)]);
    let btf = types.parse();
    assert_eq!(btf.member("self", "nothing"), Ok(None));
    assert_eq!(btf.member("self", "a.b"), Ok(None));
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let mut types = Builder::new();
    let int = types.int();
    types.aggregate(kind::STRUCT, "group", false, &[("id", int, 0)]);
    types.function("f", &[("group", int)]);
    let good = types.bytes();
    for len in 0..good.len() {
        // Cut strings leave names empty; a cut header or type is refused. Neither panics.
        let _ = Btf::parse(good[..len].to_vec());
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            if let Ok(btf) = Btf::parse(bad) {
                let _ = btf.member("group", "id");
                let _ = btf.parameters("f");
            }
        }
    }
    assert_eq!(Btf::parse(Vec::new()).err(), Some(Error::Malformed("no magic, or the wrong byte order")));
}
