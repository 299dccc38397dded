//! What somebody between both sides can do, and that both notice it.

use super::*;

const TOKEN: &str = "correct horse battery staple";

/// Hellos as they are said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    ByServer,
    ByClient,
}

/// What came of a handshake in which one hello was changed on its way.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// A side did not take the hello itself.
    HelloRefused,
    /// The server took the client's proof.
    ServerWasFooled,
    /// The client took what a server with the token would say.
    ClientWasFooled,
    /// Neither took the other's proof.
    BothNoticed,
}

/// Runs a handshake with a hello changed. Even somebody who gets the server to say its proof must not get the client to take it.
fn in_the_middle(whose: Said, change: impl Fn(&[u8]) -> Vec<u8>) -> End {
    in_the_middle_of(VERSIONS, whose, change)
}

/// The same, of two that speak these versions.
fn in_the_middle_of(versions: (u32, u32), whose: Said, change: impl Fn(&[u8]) -> Vec<u8>) -> End {
    let (mut server, hello) = ServerHandshake::speaking(TOKEN, versions).unwrap();
    let mut client = ClientHandshake::speaking(TOKEN, versions);
    let hello = if whose == Said::ByServer { change(&hello) } else { hello };
    let Ok([said, proven]) = client.answer(&hello) else { return End::HelloRefused };
    let said = if whose == Said::ByClient { change(&said) } else { said };
    let Ok(step) = server.step(&said) else { return End::HelloRefused };
    assert!(matches!(step, Step::Wait));
    match server.step(&proven) {
        Ok(_) => return End::ServerWasFooled,
        Err(refusal) => assert_eq!(refusal, Refusal::Token),
    }
    note(&mut server.transcript, &proven);
    let answer = proof(&key(&server), "server", &server.transcript).finalize().into_bytes();
    if client.finish(&answer).is_ok() { End::ClientWasFooled } else { End::BothNoticed }
}

/// The key that a server has made with a client.
fn key(server: &ServerHandshake) -> [u8; 32] {
    server.agreed.as_ref().unwrap().0
}

#[test]
fn without_anybody_between_both_take_each_others_proof() {
    for whose in [Said::ByServer, Said::ByClient] {
        assert_eq!(in_the_middle(whose, <[u8]>::to_vec), End::ServerWasFooled, "the test itself");
    }
}

#[test]
fn each_bit_of_each_hello_counts() {
    for whose in [Said::ByServer, Said::ByClient] {
        // Hellos of one release have one length.
        let (_, hello) = ServerHandshake::begin(TOKEN).unwrap();
        let length = match whose {
            Said::ByServer => hello.len(),
            Said::ByClient => ClientHandshake::begin(TOKEN).answer(&hello).unwrap()[0].len(),
        };
        let mut taken = 0;
        for bit in 0..length * 8 {
            let end = in_the_middle(whose, |hello| {
                let mut changed = hello.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                changed
            });
            assert!(matches!(end, End::HelloRefused | End::BothNoticed), "{whose:?} bit {bit}: {end:?}");
            taken += usize::from(end == End::BothNoticed);
        }
        // Most flips are still a hello: 64 digits of the nonce alone have several bits that give other digits.
        assert!(taken > 100, "{whose:?}: {taken}");
    }
}

/// A hello with another value of a field.
fn with(field: &str, value: serde_json::Value) -> impl Fn(&[u8]) -> Vec<u8> {
    move |hello| {
        let mut object: serde_json::Value = serde_json::from_slice(hello).unwrap();
        assert!(object.get(field).is_some(), "{field}");
        object[field] = value.clone();
        serde_json::to_vec(&object).unwrap()
    }
}

#[test]
fn neither_an_older_version_nor_another_name_can_be_put_in() {
    let nonce = "0".repeat(64);
    let long = "1".repeat(TOOL + 1);
    let [to_server, to_client] = [Side::Client, Side::Server].map(|side| Exchange::begin(side, TOKEN).unwrap().1);
    let cases: Vec<(Said, &str, serde_json::Value, End)> = vec![
        // As if the server spoke only what can be guessed at.
        (Said::ByServer, "newest", 2.into(), End::HelloRefused),
        (Said::ByServer, "newest", 1.into(), End::HelloRefused),
        (Said::ByServer, "newest", 0.into(), End::HelloRefused),
        (Said::ByServer, "oldest", 2.into(), End::BothNoticed),
        (Said::ByServer, "newest", 9.into(), End::BothNoticed),
        (Said::ByServer, "oldest", 4.into(), End::HelloRefused),
        // Another exchange's message, even one of the right token; none; and one that comes back.
        (Said::ByServer, "pake", to_client.clone().into(), End::BothNoticed),
        (Said::ByClient, "pake", to_server.clone().into(), End::BothNoticed),
        (Said::ByServer, "pake", to_server.into(), End::HelloRefused),
        (Said::ByClient, "pake", to_client.into(), End::HelloRefused),
        (Said::ByServer, "pake", "".into(), End::HelloRefused),
        (Said::ByClient, "pake", "".into(), End::HelloRefused),
        // What is printed is a release, or nothing is.
        (Said::ByServer, "tool", "1.0\u{1b}[2J".into(), End::HelloRefused),
        (Said::ByClient, "tool", "1.0\n".into(), End::HelloRefused),
        (Said::ByClient, "tool", "".into(), End::HelloRefused),
        (Said::ByClient, "tool", long.clone().into(), End::HelloRefused),
        (Said::ByClient, "tool", long[1..].into(), End::BothNoticed),
        (Said::ByServer, "tool", "1.2.3-rc.1+x".into(), End::BothNoticed),
        (Said::ByServer, "tool", "0.0.1".into(), End::BothNoticed),
        (Said::ByServer, "nonce", nonce.clone().into(), End::BothNoticed),
        (Said::ByServer, "nonce", "".into(), End::HelloRefused),
        (Said::ByServer, "nonce", nonce[1..].into(), End::HelloRefused),
        (Said::ByClient, "nonce", "g".repeat(64).into(), End::HelloRefused),
        (Said::ByServer, "protocol", "rdmadoctor-other".into(), End::HelloRefused),
        (Said::ByClient, "version", 2.into(), End::HelloRefused),
        (Said::ByClient, "version", 0.into(), End::HelloRefused),
        (Said::ByClient, "version", 4.into(), End::HelloRefused),
        (Said::ByClient, "tool", "0.0.1".into(), End::BothNoticed),
        (Said::ByClient, "nonce", nonce.into(), End::BothNoticed),
        (Said::ByClient, "protocol", "rdmadoctor-other".into(), End::HelloRefused),
    ];
    for (whose, field, value, end) in cases {
        assert_eq!(in_the_middle(whose, with(field, value.clone())), end, "{whose:?} {field} {value}");
    }
    // Of two that speak two versions, neither is brought to the older one.
    for (whose, field) in [(Said::ByServer, "newest"), (Said::ByClient, "version")] {
        assert_eq!(in_the_middle_of((3, 4), whose, with(field, 3.into())), End::BothNoticed, "{whose:?}");
    }
    for whose in [Said::ByServer, Said::ByClient] {
        // The same words with more room between them, and more fields.
        assert_eq!(in_the_middle(whose, |hello| [hello, &b" "[..]].concat()), End::BothNoticed);
        assert_eq!(in_the_middle(whose, |hello| [&hello[..hello.len() - 1], &b",\"more\":1}"[..]].concat()), End::HelloRefused);
        assert_eq!(in_the_middle(whose, |hello| hello[..hello.len() - 1].to_vec()), End::HelloRefused);
    }
}

#[test]
fn each_bit_of_each_proof_counts_and_none_stands_for_another() {
    let begun = || {
        let (mut server, hello) = ServerHandshake::begin(TOKEN).unwrap();
        let mut client = ClientHandshake::begin(TOKEN);
        let [said, proven] = client.answer(&hello).unwrap();
        server.step(&said).unwrap();
        (server, client, proven)
    };
    let changed = |proof: &[u8], bit: usize| {
        let mut changed = proof.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    };
    for bit in 0..32 * 8 {
        let (mut server, _, proven) = begun();
        assert_eq!(server.step(&changed(&proven, bit)).err(), Some(Refusal::Token), "{bit}");
        let (mut server, client, proven) = begun();
        let Step::Done(answer, ..) = server.step(&proven).unwrap() else { panic!("not done") };
        assert_eq!(client.finish(&changed(&answer, bit)).err(), Some(Refusal::Token), "{bit}");
    }
    for cut in [0, 1, 16, 31] {
        let (mut server, client, proven) = begun();
        assert_eq!(server.step(&proven[..cut]).err(), Some(Refusal::Token));
        assert_eq!(client.finish(&proven[..cut]).err(), Some(Refusal::Token));
    }
    // What the client said is no answer to it.
    let (_, client, proven) = begun();
    assert_eq!(client.finish(&proven).err(), Some(Refusal::Token));
    let (mut server, client, proven) = begun();
    let [own, other] = ["client", "server"].map(|what| proof(&key(&server), what, &server.transcript).finalize().into_bytes().to_vec());
    assert!(own == proven && other != proven);
    assert_eq!(server.step(&other).err(), Some(Refusal::Token));
    assert_eq!(client.finish(&other).err(), Some(Refusal::Token));
}

#[test]
fn a_proof_covers_what_was_said_piece_by_piece() {
    // Two ways to cut the same bytes are two transcripts.
    let told = |pieces: &[&[u8]]| {
        let mut transcript = Vec::new();
        pieces.iter().for_each(|piece| note(&mut transcript, piece));
        transcript
    };
    assert_ne!(told(&[b"ab", b"c"]), told(&[b"a", b"bc"]));
    assert_ne!(told(&[b"abc"]), told(&[b"abc", b""]));
    let made = |key: u8, what: &str, transcript: &[u8]| proof(&[key; 32], what, transcript).finalize().into_bytes();
    // The end of a name is no beginning of what follows.
    assert_ne!(made(1, "client", b"x"), made(1, "clientx", b""));
    assert_ne!(made(1, "client", b"x"), made(2, "client", b"x"));
}

#[test]
fn a_token_that_is_nearly_right_is_wrong_on_both_sides() {
    let other = |token: &str| {
        let (mut server, hello) = ServerHandshake::begin(TOKEN).unwrap();
        let mut client = ClientHandshake::begin(token);
        let [said, proven] = client.answer(&hello).unwrap();
        server.step(&said).unwrap();
        let refused = server.step(&proven).err();
        // A server of another token says a proof of its own.
        let (mut server, hello) = ServerHandshake::begin(token).unwrap();
        let mut client = ClientHandshake::begin(TOKEN);
        let [said, proven] = client.answer(&hello).unwrap();
        server.step(&said).unwrap();
        note(&mut server.transcript, &proven);
        let answer = proof(&key(&server), "server", &server.transcript).finalize().into_bytes();
        (refused, client.finish(&answer).err())
    };
    for token in ["", "correct horse battery stapl", "correct horse battery staple ", "Correct horse battery staple", "correct"] {
        assert_eq!(other(token), (Some(Refusal::Token), Some(Refusal::Token)), "{token:?}");
    }
}

/// Both sides' keys of one session: the server's, then the client's.
fn session() -> [Keys; 2] {
    let (mut server, hello) = ServerHandshake::begin(TOKEN).unwrap();
    let mut client = ClientHandshake::begin(TOKEN);
    let [said, proven] = client.answer(&hello).unwrap();
    server.step(&said).unwrap();
    let Step::Done(answer, keys, _) = server.step(&proven).unwrap() else { panic!("not done") };
    [keys, client.finish(&answer).unwrap().0]
}

#[test]
fn a_frame_that_comes_back_to_its_sender_is_none() {
    let [mut server, mut client] = session();
    for _ in 0..3 {
        let (question, answer) = (client.seal(b"question"), server.seal(b"question"));
        assert_ne!(question, answer, "the same words in both directions");
        assert_eq!((client.open(&question), server.open(&answer)), (None, None));
        assert_eq!(server.open(&question).as_deref(), Some(&b"question"[..]));
        assert_eq!(client.open(&answer).as_deref(), Some(&b"question"[..]));
    }
}

#[test]
fn frames_are_taken_once_in_their_order_and_none_is_left_out() {
    let [mut server, mut client] = session();
    let frames: Vec<Vec<u8>> = (0..4_u8).map(|number| client.seal(&[number])).collect();
    assert_eq!(server.open(&frames[1]), None, "the first was left out");
    assert_eq!(server.open(&frames[0]), Some(vec![0]), "a frame that was refused takes no number");
    assert_eq!(server.open(&frames[0]), None, "said again");
    assert_eq!(server.open(&frames[2]), None, "one was left out");
    assert_eq!(server.open(&frames[1]), Some(vec![1]));
    assert_eq!(server.open(&frames[3]), None, "reordered");
    assert_eq!(server.open(&frames[2]), Some(vec![2]));
    assert_eq!(server.open(&frames[3]), Some(vec![3]));
    assert!(frames.iter().all(|frame| server.open(frame).is_none()), "all of it said again");
}

#[test]
fn each_bit_of_a_frame_counts_and_so_does_its_end() {
    for payload in [&b""[..], b"x", b"sixteen bytes 16", &[0; 100]] {
        let [mut server, mut client] = session();
        let frame = client.seal(payload);
        assert_eq!(frame.len(), payload.len() + 32);
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(server.open(&changed), None, "bit {bit} of {payload:?}");
        }
        for cut in 0..frame.len() {
            assert_eq!((server.open(&frame[..cut]), server.open(&frame[cut + 1..])), (None, None), "{cut}");
        }
        assert_eq!(server.open(&[&frame[..], b"x"].concat()), None);
        assert_eq!(server.open(&frame).as_deref(), Some(payload));
    }
}

#[test]
fn a_nonce_is_used_once_and_frames_are_of_their_session() {
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..50 {
        let (_, hello) = ServerHandshake::begin(TOKEN).unwrap();
        let [said, _] = ClientHandshake::begin(TOKEN).answer(&hello).unwrap();
        for frame in [&hello, &said] {
            let object: serde_json::Value = serde_json::from_slice(frame).unwrap();
            let nonce = object["nonce"].as_str().unwrap().to_owned();
            // 32 bytes in hexadecimal digits.
            assert!(nonce.len() == 64 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
            assert!(nonces.insert(nonce));
        }
    }
    let [[_, mut earlier], [mut server, mut client]] = [session(), session()];
    assert_eq!(server.open(&earlier.seal(b"close")), None);
    assert!(server.open(&client.seal(b"close")).is_some());
    // A server that says its hello again, nonce and all, to somebody with the proof of before: of no use to it, as the client's are new.
    let (mut server, hello) = ServerHandshake::begin(TOKEN).unwrap();
    let [said, proven] = ClientHandshake::begin(TOKEN).answer(&hello).unwrap();
    server.step(&said).unwrap();
    let Step::Done(answer, ..) = server.step(&proven).unwrap() else { panic!("not done") };
    let mut client = ClientHandshake::begin(TOKEN);
    client.answer(&hello).unwrap();
    assert_eq!(client.finish(&answer).err(), Some(Refusal::Token));
    // The same hello of a server, said to two clients, makes other keys for each: the clients' nonces count too.
    let (_, hello) = ServerHandshake::begin(TOKEN).unwrap();
    let proofs = [(); 2].map(|()| ClientHandshake::begin(TOKEN).answer(&hello).unwrap()[1].clone());
    assert_ne!(proofs[0], proofs[1]);
}

/// Somebody who has no token and plays the server hears a client's hello and proof. No token that is tried on them afterwards shows as the right one:
/// neither as the key of the proof, as before SPAKE2, nor by what the exchange that was begun without it gives.
#[test]
fn what_a_server_without_the_token_hears_cannot_be_compared_with_guesses() {
    let hello = |pake: String| {
        let hello = ServerHello {
            protocol: NAME.to_owned(),
            oldest: VERSIONS.0,
            newest: VERSIONS.1,
            tool: "0.1.0".to_owned(),
            nonce: "0".repeat(64),
            pake,
        };
        serde_json::to_vec(&hello).unwrap()
    };
    let begun = |token: &str| Exchange::begin(Side::Server, token).unwrap();
    let heard = |hello: &[u8]| ClientHandshake::begin(TOKEN).answer(hello).unwrap();
    let verifies = |key: &[u8], transcript: &[u8], proven: &[u8]| {
        let mut mac = keyed(key);
        mac.update(b"client\0");
        mac.update(transcript);
        mac.verify_slice(proven).is_ok()
    };
    let transcript = |hello: &[u8], said: &[u8]| {
        let mut transcript = Vec::new();
        note(&mut transcript, hello);
        note(&mut transcript, said);
        transcript
    };
    let pake_of = |said: &[u8]| serde_json::from_slice::<ClientHello>(said).unwrap().pake;
    // The test itself: a server with the token finds the proof right, by the key of the exchange and not by the token.
    let (exchange, pake) = begun(TOKEN);
    let first = hello(pake);
    let [said, proven] = heard(&first);
    assert!(verifies(&exchange.finish(&pake_of(&said)).unwrap(), &transcript(&first, &said), &proven));
    assert!(!verifies(TOKEN.as_bytes(), &transcript(&first, &said), &proven));
    // The guess was another one. The right token, tried afterwards, is as wrong as any.
    let (exchange, pake) = begun("a guess that is wrong");
    let first = hello(pake);
    let [said, proven] = heard(&first);
    let guessed = exchange.finish(&pake_of(&said)).unwrap();
    let (another, _) = begun(TOKEN);
    let with_token = another.finish(&pake_of(&said)).unwrap();
    for key in [TOKEN.as_bytes(), &guessed, &with_token] {
        assert!(!verifies(key, &transcript(&first, &said), &proven));
    }
}
