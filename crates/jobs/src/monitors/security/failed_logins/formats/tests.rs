use super::*;
use proptest::prelude::*;

fn stderr(prefix: &str, text: &str) -> Vec<Failure> {
    Format::of("stderr", prefix, "C").unwrap().read(text.as_bytes()).failures
}

fn told(failures: &[Failure]) -> Vec<String> {
    failures.iter().map(|one| format!("{}/{}/{}/{}", one.time, one.user, one.database, one.address)).collect()
}

/// What PostgreSQL writes of a wrong password with the prefix `%m [%p] %q%u@%d %h `.
fn wrong(user: &str, database: &str) -> String {
    let prefix = format!("2026-11-21 10:00:00.123 UTC [42] {user}@{database} 10.9.9.9 ");
    let name = user.replace('\n', "\n\t");
    format!(
        "{prefix}FATAL:  password authentication failed for user \"{name}\"\n\
         {prefix}DETAIL:  Role \"{name}\" has no password assigned.\n\tConnection matched.\n"
    )
}

fn csv(state: &str, user: &str, message: &str) -> String {
    let quoted = |text: &str| text.replace('"', "\"\"");
    format!(
        "2026-11-21 10:00:00.123 UTC,\"{}\",\"shop\",42,\"10.0.0.1:5432\",6740.2a,1,\"authentication\",2026-11-21 10:00:00 UTC,3/1,0,FATAL,{state},\"{}\",,,,,,,,,\"\",\"client backend\",,0\n",
        quoted(user),
        quoted(message)
    )
}

#[test]
fn any_prefix() {
    let debian = "2026-11-21 10:00:00.123 UTC [42] app@shop FATAL:  password authentication failed for user \"app\"\n\
                  2026-11-21 10:00:00.123 UTC [42] app@shop DETAIL:  Connection matched file \"pg_hba.conf\"\n";
    assert_eq!(told(&stderr("%m [%p] %q%u@%d ", debian)), ["2026-11-21 10:00:00.123 UTC/app/shop/unknown"]);
    let received =
        "2026-11-21 10:00:00.1 UTC [42] [unknown]@[unknown] LOG:  connection received: host=10.0.0.7 port=5\n";
    let both = stderr("%m [%p] %q%u@%d ", &format!("{received}{debian}"));
    assert_eq!(both[0].address, "10.0.0.7");
    let local = received.replace("10.0.0.7 port=5", "[local]");
    assert_eq!(stderr("%m [%p] %q%u@%d ", &format!("{local}{debian}"))[0].address, "this machine");
    let full =
        "2026-11-21 10:00:00 UTC:10.1.2.3(5544):bob@db:[77]:FATAL:  password authentication failed for user \"bob\"\n";
    assert_eq!(told(&stderr("%t:%r:%u@%d:[%p]:", full)), ["2026-11-21 10:00:00 UTC/bob/db/10.1.2.3"]);
    let state = "1763719200.123 28P01 10.1.2.3 eve   SCHWERWIEGEND:  Passwort-Authentifizierung fehlgeschlagen\n";
    assert_eq!(told(&stderr("%n %e %h %-5u ", state)), ["1763719200.123/eve/unknown/10.1.2.3"]);
    let details =
        "28P01 [7] eve FATAL:  falsch\n28P01 [7] eve DETAIL:  Zeile 2\n\tvon 3\n28P01 [8] eve FATAL:  falsch\n";
    assert_eq!(stderr("%e [%p] %u ", details).len(), 2);
    let none = "FATAL:  no pg_hba.conf entry for host \"10.9.9.9\", user \"eve\", database \"shop\", no encryption\n";
    assert_eq!(told(&stderr("", none)), ["/eve/shop/10.9.9.9"]);
    let close = "eve@shopFATAL:  password authentication failed for user \"eve\"\n";
    assert_eq!(told(&stderr("%u@%d", close)), ["/eve/shop/unknown"]);
    let german = |prefix: &str| Format::of("stderr", prefix, "de_DE.UTF-8").map(|_| ()).unwrap_err();
    assert!(german("%m [%p] ").contains("add %e to log_line_prefix"));
    let role = "FATAL:  role \"nobody\" does not exist\nFATAL:  database \"x\" does not exist\nERROR:  42\n";
    assert_eq!(told(&stderr("", role)), ["/nobody/unknown/unknown"]);
}

/// The prefix of [`wrong`].
const PREFIX: &str = "%m [%p] %q%u@%d %h ";

#[test]
fn c44_names_hide_no_guess_and_forge_no_address() {
    let of = |user: &str, database: &str| {
        // Between two others, and a line of a library that has no prefix.
        let text = format!("{}some library: hello\n{}{}", wrong("a", "b"), wrong(user, database), wrong("c", "d"));
        let found = stderr(PREFIX, &text);
        let all = told(&found);
        assert_eq!(all.len(), 3, "{user:?} {database:?}: {all:?}");
        assert_eq!(all[0], "2026-11-21 10:00:00.123 UTC/a/b/10.9.9.9");
        assert_eq!(all[2], "2026-11-21 10:00:00.123 UTC/c/d/10.9.9.9");
        assert_eq!(found[1].user, user);
        found[1].address.clone()
    };
    for (user, database) in [
        ("postgres", "x LOG:  y"),
        ("postgres", "x\nLOG:  y"),
        ("x FATAL:  y", "x"),
        ("x\n2026-11-28 03:50:00.000 UTC [4000] boss", "postgres"),
        ("x@d 10.0.0.1 FATAL:  role \"x\" does not exist\ny", "d"),
        ("x@d 10.0.0.1 FATAL:  password authentication failed for user \"x\"\ny", "d"),
        ("x LOG:  a\n2026-11-28 03:50:00.000 UTC [4] b", "d 1.1.1.1 FATAL:  role \"b\" does not exist\ny"),
        ("postgres", "d 10.0.0.9 FATAL:  no pg_hba.conf entry for "),
        ("x\n\ty", "d"),
        ("x", "d\n2026-11-28 03:50:00.000 UTC [4] x@d 1.1.1.1 LOG:  connection received: host=1.1.1.1 port=4"),
        ("\n\n\n", "\n"),
        ("a\" b", "\""),
    ] {
        assert_eq!(of(user, database), "10.9.9.9", "{user:?} {database:?}");
    }
    // Before names an address cannot be forged by a user either.
    let user = "x LOG:  a\n2026-11-28 03:50:00.000 UTC [4] 1.1.1.1 b";
    let text = format!(
        "2026-11-21 10:00:00.123 UTC [42] 10.9.9.9 {user}@d FATAL:  password authentication failed for user \"{}\"\n",
        user.replace('\n', "\n\t")
    );
    assert_eq!(stderr("%m [%p] %h %u@%d ", &text)[0].address, "10.9.9.9");
    // Nor does a name keep us busy.
    let long = "FATAL:  role \"".repeat(700);
    assert!(!stderr(PREFIX, &wrong(&long, "d")).is_empty());
    let coded = format!("28P01 {}@x SCHWERWIEGEND:  falsch\n", ":  ".repeat(3000));
    assert_eq!(stderr("%e %u@%d ", &coded).len(), 1);
}

#[test]
fn csv_with_line_ends_in_a_field_and_json() {
    let text =
        csv("42P01", "app", "relation \"x\"\ndoes not exist") + &csv("28P01", "app", "password authentication failed");
    let format = Format::of("csvlog, stderr", "", "C").unwrap();
    let read = format.read(text.as_bytes());
    assert_eq!((told(&read.failures), read.torn), (vec!["2026-11-21 10:00:00.123 UTC/app/shop/10.0.0.1".into()], 0));
    let cut = &text.as_bytes()[..text.len() - 10];
    assert_eq!(format.read(cut).whole, text.find("\n2026").unwrap() + 1, "the second record is not whole");
    assert!(format.reads("postgresql.csv") && !format.reads("postgresql.log"));
    let json = br#"{"timestamp":"2026-11-21 10:00:00.123 UTC","user":"app","dbname":"shop","remote_host":"10.0.0.2","error_severity":"FATAL","state_code":"28000","message":"no pg_hba.conf entry"}
"#;
    let format = Format::of("jsonlog", "", "C").unwrap();
    assert_eq!(told(&format.read(json).failures), ["2026-11-21 10:00:00.123 UTC/app/shop/10.0.0.2"]);
    // Names are bytes, and need not be UTF-8.
    let latin: Vec<u8> =
        String::from_utf8_lossy(json).replace("app", "?").bytes().map(|b| if b == b'?' { 0xFC } else { b }).collect();
    assert_eq!(told(&format.read(&latin).failures), ["2026-11-21 10:00:00.123 UTC/\u{FFFD}/shop/10.0.0.2"]);
    for cut in 1..json.len() - 1 {
        let read = format.read(&[&json[..cut], json].concat());
        assert_eq!((read.failures.len(), read.torn, read.whole), (1, 1, cut + json.len()), "cut off at {cut}");
    }
}

#[test]
fn c44_a_torn_record_costs_no_other() {
    let format = Format::of("csvlog", "", "C").unwrap();
    let torn = csv(
        "00000",
        "eve \"the\" 1st",
        "duration: 5 ms  statement: select '\"',\n\t\",,\"\n2026-11-21 10:00:00.000 UTC,,,4,,",
    );
    let after = csv("28P01", "app", "a \"quoted\" word,\n\"") + &csv("42P01", "app", "x") + &csv("28P01", "bob", "y");
    for cut in 1..torn.len() {
        for end in ["", "\n"] {
            let text = [&torn[..cut], end, &after].concat();
            let read = format.read(text.as_bytes());
            assert_eq!(read.failures.len(), 2, "cut off at {cut}: {:?}", &torn[..cut]);
            // One that lacks its last fields is like those of earlier versions.
            assert!(read.torn > 0 || cut > torn.len() - 30, "cut off at {cut}");
            assert_eq!(read.whole, text.len());
        }
    }
    // What is written now may go on.
    assert_eq!(format.read(&torn.as_bytes()[..torn.len() - 3]).whole, 0);
    // Other text is passed over, in no time.
    let noise = "no, record \"at\" all\n".repeat(100_000);
    assert_eq!(format.read(format!("{noise}{after}").as_bytes()).failures.len(), 2);
}

proptest! {
    /// Whatever a stranger calls himself: no panic, and his attempt and those beside it are counted.
    #[test]
    fn c44_every_attempt_is_counted(user in "[ax@: \"\\n\\t\\[\\],]{0,40}(FATAL:  |LOG:  |2026-11-21 10:00:00.123 UTC|)[a\\n@ ]{0,9}", database in "(?s).{0,30}") {
        let text = wrong("a", "b") + &wrong(&user, &database) + &wrong("c", "d");
        prop_assert_eq!(stderr(PREFIX, &text).len(), 3);
        let text = csv("28P01", &user, &database) + &csv("28P01", "a", "b");
        prop_assert_eq!(Format::Csv.read(text.as_bytes()).failures.len(), 2);
    }
}
