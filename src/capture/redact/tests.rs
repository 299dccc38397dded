use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::capture::Capture;

fn redactor(names: &[&str]) -> Redactor {
    Redactor::with_key([7; 16], &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
}

fn one(text: &str) -> String {
    redactor(&["gpu01.example.com", "n7"]).text(text, false)
}

#[test]
fn what_tells_nothing_stays() {
    for text in [
        "0000:17:00.0",
        "127.0.0.1 ::1 :: 0.0.0.0 255.255.255.0 224.0.0.1 ff02::1",
        "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff 01:00:5e:00:00:01",
        "0000:0000:0000:0000",
        "/lib/modules/5.14.0-427.13.1.1.el9/kernel/mlx5_core.ko",
        "libibverbs.so.1.14.44.0",
        "c10::cuda::Error, std::string",
        "000001ffffffffff 0x000001ffffffffff 6BDF8E30A1B2C3D4E5F60718",
        "12:30:45 2026-11-24T12:30:45Z",
        "mlx5_0 eth0 570.86.15 20.39.1002 n77 serially serial: none",
    ] {
        assert_eq!(one(text), text);
    }
    assert_eq!(redactor(&[]).text("22.41.10.2", true), "22.41.10.2");
}

#[test]
fn what_tells_is_replaced_wherever_it_stands() {
    for secret in [
        "10.1.2.3",
        "8.8.4.4",
        "fe80::9a03:9bff:fe12:3456",
        "2001:db8::1:2",
        "98:03:9b:12:34:56",
        "98-03-9B-12-34-56",
        "9803:9b03:0012:3456",
        "98:03:9b:03:00:12:34:56",
        "80:00:02:08:fe:80:00:00:00:00:00:00:98:03:9b:03:00:12:34:56",
        "80-00-02-08-FE-80-00-00-00-00-00-00-98-03-9B-03-00-12-34-56",
        "98-03-9b-03-00-12-34-56",
        "9803:9B03:0012:3456",
        "FE80::9A03:9BFF:FE12:3456",
        "fe80:0000:0000:0000:9a03:9bff:fe12:3456",
        "0000:0000:0000:0000:0000:ffff:0a01:0203",
        "enx98039b123456",
        "rocex98039b0300123456",
        "gpu01",
        "gpu01.example.com",
        "GPU01",
        "other7.example.com",
        "n7",
        "6c1e3a56-0f3d-4f0c-9d5a-0123456789ab",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        for (before, after) in
            [("", ""), ("at ", "."), ("(", ")"), ("GPU-", ","), ("x=", "%eth0"), ("[", "]:80"), ("/", "/24"), ("a_", "\n"), ("", ": gone")]
        {
            let text = one(&format!("{before}{secret}{after}"));
            assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{before}{secret}{after} -> {text}");
            assert!((text.starts_with(before) || secret.contains(".com")) && text.ends_with(after), "{before}{secret}{after} -> {text}");
        }
    }
    for line in ["NVRM: GPU Board Serial Number: 1650123456789", "serial=1650123456789", "Serial No. 1650123456789 of it"] {
        assert!(one(line).contains("serial-") && !one(line).contains("1650123456789"), "{line} -> {}", one(line));
    }
}

#[test]
fn what_belongs_together_still_does() {
    let redactor = redactor(&[]);
    let mapper = &redactor.mapper;
    let hardware = [0x98, 0x03, 0x9b, 0x12, 0x34, 0x56];
    let [a, b, c, d, e, f] = mapper.hardware(hardware);
    assert_ne!([a, b, c, d, e, f], hardware);
    let link_local: Ipv6Addr = "fe80::9a03:9bff:fe12:3456".parse().unwrap();
    assert_eq!(
        mapper.six(link_local),
        Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])))
    );
    assert_eq!(mapper.guid(0x9803_9b03_0012_3456), u64::from_be_bytes([a, b, c, 3, 0, d, e, f]));
    let four = Ipv4Addr::new(10, 1, 2, 3);
    assert_eq!(mapper.six(four.to_ipv6_mapped()), mapper.four(four).to_ipv6_mapped());
    assert_eq!(one("fe80::9a03:9bff:fe12:3456/64").split_at(6).0, "fe80::");
    assert!(one("10.1.2.0/24").ends_with(".0/24"));
    // IP over InfiniBand: flags and queue pair, then the GID, whose network is that of other GIDs.
    let group =
        |address: &str| address.split(':').flat_map(|group| [group[..2].to_owned(), group[2..].to_owned()]).collect::<Vec<_>>().join(":");
    let gid = "2001:0db8:0000:0005:9803:9b03:0012:3456";
    assert_eq!(one(&format!("80:00:00:48:{}", group(gid))), format!("80:00:00:48:{}", group(&one(gid))));
    assert_ne!(one(gid)[..19], gid[..19]);
    let ipoib = "80:00:00:48:fe:80:00:00:00:00:00:00:98:03:9b:03:00:12:34:56";
    assert!(one(ipoib).starts_with("80:00:00:48:fe:80:00:00:00:00:00:00:") && one(ipoib) != ipoib);
    assert_ne!(Redactor::new(&[]).unwrap().mapper.four(four), Redactor::new(&[]).unwrap().mapper.four(four.to_string().parse().unwrap()));
}

#[test]
fn the_host_in_a_devices_description_is_known_everywhere() {
    let redacted = |name: &str, description: &str, text: &str| {
        let mut value = serde_json::json!({"devices": [{"name": name, "node_desc": description}], "log": text});
        Redactor::with_key([7; 16], &[]).redact(&mut value, &serde_json::json!({}));
        value["log"].as_str().unwrap().to_owned()
    };
    // rdma-ndd writes `%h %d`, openibd `%h HCA-1`.
    for description in ["rack7node3 mlx5_0", "rack7node3 HCA-1"] {
        let text = redacted("mlx5_0", description, "from rack7node3 and mlx5_0");
        assert!(text.starts_with("from host-") && text.ends_with(" and mlx5_0"), "{text}");
    }
    // What is no such pair names no host.
    for description in ["Connect7x Adapter", "rack7node3", "rack7node3 mlx5_1", "a rack7node3 mlx5_0"] {
        assert_eq!(redacted("mlx5_0", description, "Connect7x of rack7node3"), "Connect7x of rack7node3", "{description}");
    }
}

fn shared(one: u128, other: u128) -> u32 {
    (one ^ other).leading_zeros()
}

/// Of IPv4: which ranges with a meaning it is in.
fn class(address: Ipv4Addr) -> (bool, bool, bool, bool, bool) {
    (address.is_private(), address.is_link_local(), address.is_loopback(), address.octets()[0] >= 224, address.octets()[0] == 0)
}

proptest! {
    #[test]
    fn networks_stay_networks(key: [u8; 16], one: u32, other: u32, mask in 0_u32..=32) {
        let mapper = Mapper::new(key);
        let other = if mask == 0 { other } else { one ^ (other >> (mask - 1) >> 1) };
        let (one, other) = (Ipv4Addr::from_bits(one), Ipv4Addr::from_bits(other));
        let (own, its) = (mapper.four(one), mapper.four(other));
        prop_assert_eq!(class(one), class(own));
        prop_assert_eq!(shared(one.to_bits().into(), other.to_bits().into()), shared(own.to_bits().into(), its.to_bits().into()));
    }

    #[test]
    fn networks_of_ipv6_too(key: [u8; 16], one: u128, other: u128, mask in 0_u32..64) {
        let mapper = Mapper::new(key);
        // The lower half is a name of its own.
        let [one, other] = [one, one ^ (other >> mask)].map(|bits| Ipv6Addr::from_bits(bits | 0x2000 << 112));
        prop_assume!(!one.is_multicast() && !other.is_multicast());
        let (own, its) = (mapper.six(one), mapper.six(other));
        prop_assert_eq!(one == other, own == its);
        prop_assert_eq!(shared(one.to_bits(), other.to_bits()).min(64), shared(own.to_bits(), its.to_bits()).min(64));
        prop_assert_eq!(one.is_unicast_link_local(), own.is_unicast_link_local());
        prop_assert_eq!(one.is_unique_local(), own.is_unique_local());
    }

    /// Each identity in each form that a host writes it in, between anything that may stand around it.
    #[test]
    fn no_form_of_an_identity_is_left(
        key: [u8; 16], identity in identity(), before in around(), after in around(), uppercase: bool, is_twice: bool,
    ) {
        for (form, telling) in identity.forms() {
            let form = if uppercase && !form.starts_with(char::is_alphabetic) { form.to_uppercase() } else { form };
            let mut text = format!("{before}{form}{after}");
            if is_twice {
                text = format!("{text} {text}");
            }
            // The same with colons somewhere else makes its bare digits known.
            let mut value = serde_json::json!({"text": text, "address": identity.colons(), "guid": identity.guid()});
            Redactor::with_key(key, &[]).redact(&mut value, &serde_json::json!({}));
            let left = value["text"].as_str().unwrap().to_lowercase();
            prop_assert!(!left.contains(&form.to_lowercase()), "{text:?} -> {left:?}");
            // Not in another form either.
            let digits: String = left.chars().filter(char::is_ascii_hexdigit).collect();
            prop_assert!(!digits.contains(&telling), "{text:?} -> {left:?}");
            prop_assert!(left.starts_with(&before.to_lowercase()) && left.ends_with(&after.to_lowercase()), "{text:?} -> {left:?}");
        }
    }

    #[test]
    fn any_text_is_taken(text in ".{0,80}", more in "[0-9a-f:.x-]{0,60}") {
        let both = format!("{text} {more}");
        let once = one(&both);
        prop_assert_eq!(once.lines().count(), both.lines().count());
    }
}

proptest! {
    // Each case is a whole document.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_secret_is_left(key: [u8; 16], secrets in secrets(), document in 0_usize..2, uppercase: bool) {
        let schema = serde_json::to_value(schemars::schema_for!(Capture)).unwrap();
        let mut value = document_of(document);
        let mut walk = 0;
        plant(&mut value, &secrets.sentences(uppercase), &mut walk);
        prop_assert!(walk > 500, "{}", walk);
        let names = [secrets.host.clone(), format!("{}.{}", secrets.host, secrets.domain)];
        Redactor::with_key(key, &names).redact(&mut value, &schema);
        let text = value.to_string().to_lowercase();
        for secret in secrets.renderings() {
            prop_assert!(!text.contains(&secret.to_lowercase()), "{} in {}", secret, &text[text.find(&secret.to_lowercase()).unwrap().saturating_sub(60)..][..200]);
        }
    }
}

/// What stands before or after something in logs, paths and names.
fn around() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "", " ", "\n", "\t", "(", ")", "[", "]", "/", "\"", "=", ",", ";", "<", ">", "|", "_", "%", "@", "/sys/x/", "/y\n",
    ])
}

#[derive(Debug, Clone)]
struct Identity {
    hardware: [u8; 6],
    guid: u64,
    prefix: u64,
    number: u32,
    four: Ipv4Addr,
    uuid: u128,
}

fn identity() -> impl Strategy<Value = Identity> {
    let four = (prop::sample::select(vec![8_u8, 10, 100, 172, 192]), any::<[u8; 3]>());
    (any::<[u8; 6]>(), any::<u64>(), any::<u32>(), any::<u32>(), four, any::<u128>()).prop_map(
        |(mut hardware, guid, prefix, number, (first, [b, c, d]), uuid)| {
            // No group's address.
            hardware[0] = hardware[0] & 0xfe | 2;
            Identity {
                hardware,
                guid: guid | 1 << 60,
                prefix: 0x2001_0db8_0000_0000 | u64::from(prefix),
                number,
                four: Ipv4Addr::new(first, b, c, d),
                uuid: uuid | 1 << 127,
            }
        },
    )
}

fn hexadecimal(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

impl Identity {
    fn colons(&self) -> String {
        hexadecimal(&self.hardware, ":")
    }

    fn guid(&self) -> String {
        let digits = format!("{:016x}", self.guid);
        [&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]].join(":")
    }

    /// Each form, with the digits that must be nowhere in what is left.
    fn forms(&self) -> Vec<(String, String)> {
        let (bare, guid) = (hexadecimal(&self.hardware, ""), format!("{:016x}", self.guid));
        let long = [&self.number.to_be_bytes()[..], &[0xfe, 0x80, 0, 0, 0, 0, 0, 0], &self.guid.to_be_bytes()].concat();
        let [a, b, c, d, e, f] = self.hardware;
        let made = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])));
        let gid = Ipv6Addr::from_bits(u128::from(self.prefix) << 64 | u128::from(self.guid));
        let full = |address: Ipv6Addr| address.segments().map(|group| format!("{group:04x}")).join(":");
        let mapped = self.four.to_ipv6_mapped();
        let uuid = format!("{:032x}", self.uuid);
        let dashed = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
        let in_four = format!("{:08x}", self.four.to_bits());
        let forms = [
            (self.colons(), &bare),
            (hexadecimal(&self.hardware, "-"), &bare),
            (bare.clone(), &bare),
            (format!("enx{bare}"), &bare),
            (self.guid(), &guid),
            (guid.clone(), &guid),
            (format!("0x{guid}"), &guid),
            (format!("rocex{guid}"), &guid),
            (hexadecimal(&self.guid.to_be_bytes(), ":"), &guid),
            (hexadecimal(&self.guid.to_be_bytes(), "-"), &guid),
            (hexadecimal(&long, ":"), &guid),
            (hexadecimal(&long, "-"), &guid),
            (hexadecimal(&long, ""), &guid),
            (full(gid), &guid),
            (gid.to_string(), &guid),
            (full(made), &bare),
            (made.to_string(), &bare),
            (full(mapped), &in_four),
            (mapped.to_string(), &in_four),
            (self.four.to_string(), &in_four),
            (dashed.clone(), &uuid),
            (format!("GPU-{dashed}"), &uuid),
            (uuid.clone(), &uuid),
        ];
        forms.map(|(form, telling)| (form, telling.clone())).to_vec()
    }
}

#[derive(Debug, Clone)]
struct Secrets {
    host: String,
    domain: String,
    other_host: String,
    four: [Ipv4Addr; 3],
    six: Ipv6Addr,
    hardware: [u8; 6],
    guid: u64,
    serial: String,
    uuid: String,
}

fn secrets() -> impl Strategy<Value = Secrets> {
    let four = |first: u8| any::<[u8; 3]>().prop_map(move |[b, c, d]| Ipv4Addr::new(first, b, c, d));
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    let fours =
        (four(10), four(192).prop_map(|four| Ipv4Addr::from_bits(four.to_bits() & 0xffff | 0xc0a8_0000)), (1_u8..224).prop_flat_map(four));
    (
        "[a-z]{3,9}-?[0-9]{2,3}",
        "[a-z]{5,9}\\.(com|org)",
        "[a-z]{3,9}[0-9]{2}",
        fours,
        any::<u128>(),
        any::<[u8; 6]>(),
        any::<u64>(),
        "[A-Z]{2}[0-9]{9}",
        uuid,
    )
        .prop_map(|(host, domain, other_host, (one, two, three), six, mut hardware, guid, serial, uuid)| {
            hardware[0] &= 0xfe;
            hardware[5] |= 1;
            Secrets {
                host,
                domain,
                other_host,
                four: [one, two, three],
                six: Ipv6Addr::from_bits(six >> 3 | 0x2000 << 112),
                hardware,
                guid: guid | 1,
                serial,
                uuid,
            }
        })
        .prop_filter("loopback and the like are no secrets", |secrets| secrets.four.iter().all(|four| !four.is_loopback()))
}

impl Secrets {
    fn colons(&self) -> String {
        self.hardware.map(|byte| format!("{byte:02x}")).join(":")
    }

    fn guid(&self) -> String {
        let digits = format!("{:016x}", self.guid);
        [&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]].join(":")
    }

    fn gid(&self, upper: &str) -> String {
        format!("{upper}:{}", self.guid())
    }

    /// Everything that must be nowhere afterwards.
    fn renderings(&self) -> Vec<String> {
        let hardware = self.colons();
        let mut all = vec![
            self.host.clone(),
            self.domain.clone(),
            format!("{}.{}", self.other_host, self.domain),
            self.six.to_string(),
            hardware.clone(),
            hardware.replace(':', "-"),
            hardware.replace(':', ""),
            self.guid(),
            self.guid().replace(':', ""),
            hexadecimal(&self.guid.to_be_bytes(), ":"),
            self.serial.clone(),
            self.uuid.clone(),
        ];
        all.extend(self.four.iter().map(|four| format!(" {four} ")));
        all
    }

    /// Texts that have them.
    fn sentences(&self, uppercase: bool) -> Vec<String> {
        let (host, hardware, guid) = (&self.host, self.colons(), self.guid());
        let [one, two, three] = self.four;
        let all = vec![
            format!("{host} kernel: mlx5_core 0000:17:00.0: link of {host} to {one} and {two}:80 from [{}]:4791 is down", self.six),
            format!("bond0: {hardware}; enx{}; guid 0x{} of {guid}", hardware.replace(':', ""), guid.replace(':', "")),
            format!("{} and {}", self.gid("fe80:0000:0000:0000"), hardware.replace(':', "-")),
            format!(
                "{host}.{d} or {}.{d}, {three} . {} {}",
                self.other_host,
                guid.replace(':', ""),
                hardware.replace(':', ""),
                d = self.domain
            ),
            format!("NVRM: GPU Board Serial Number: {}; GPU-{}", self.serial, self.uuid),
            format!("vllm@{host}.service, http://{host}:8000/?peer={one}, {} {two} {three} ", self.uuid),
        ];
        if uppercase {
            all.iter().map(|text| text.replace(&self.uuid, &self.uuid.to_uppercase()).replace(host, &host.to_uppercase())).collect()
        } else {
            all
        }
    }
}

/// A modelled host's facts, with what the verbs library and attempts gave.
fn document_of(number: usize) -> Value {
    use crate::sim::HostModel;
    let model = HostModel::find(["erdma-a10x8", "h100x8-cx7"][number]).unwrap();
    serde_json::to_value(crate::capture::tests::of_model(&model)).unwrap()
}

/// Adds a sentence to every text of a document that is not a version, and to every list of texts.
fn plant(value: &mut Value, sentences: &[String], count: &mut usize) {
    match value {
        Value::String(text) => {
            *text += &format!(" {} ", sentences[*count % sentences.len()]);
            *count += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| plant(item, sentences, count)),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(key, _)| !is_one(VERSIONS, key)).for_each(|(_, field)| plant(field, sentences, count));
        }
        _ => {}
    }
}
