//! Flags, exit codes, and what is told when something is wrong.

use std::process::Stdio;

use crate::running::{End, MIB, Running, command};

#[test]
fn exit_exits_with_any_code() {
    for code in [0, 1, 7, 137, 143, 255] {
        assert_eq!(Running::start(&format!("exit --code {code}")).end(), End::Code(code));
    }
    assert_eq!(Running::start("exit --code 3 --after 50ms").end(), End::Code(3));
}

#[test]
fn a_wrong_flag_exits_with_2_and_is_named() {
    for (line, flag) in [
        ("leak --rate 8Mi/s --cap 64", "--cap"),
        ("leak --rate 8Mi --cap 64Mi", "--rate"),
        ("leak --rate 8Mi/s", "--cap"),
        ("hog --sise 64Mi", "--sise"),
        ("exit --code 256", "--code"),
        ("serve --port 0 --cap 1Mi", "--port"),
        ("cpu --rlimit-cpu 1500ms", "rlimitCpu"),
        ("idle --on-term maybe", "--on-term"),
        ("boar", "boar"),
        ("", "which behaviour"),
    ] {
        let (end, problem) = Running::start(line).end_and_problem();
        assert_eq!(end, End::Code(2), "{line}: {problem}");
        assert!(problem.contains(flag) && problem.contains("--help"), "{line}: {problem}");
    }
}

#[test]
fn help_names_every_behaviour_wherever_it_is_asked_for() {
    for line in ["--help", "-h", "hog --size 1Mi --help"] {
        let output = command(line).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        for behaviour in "hog leak children tmpfs page-cache ignore-term exit serve cpu idle".split(' ') {
            assert!(help.contains(&format!("\n  {behaviour} ")), "{behaviour}: {help}");
        }
    }
}

#[test]
fn a_spec_says_what_flags_say() {
    let by_spec = Running::start(r#"--spec {"hog":{"size":"2Mi","thenExit":8},"termCode":1}"#);
    by_spec.says_it_holds(2 * MIB);
    assert_eq!(by_spec.end(), End::Code(8));
    let (end, problem) = Running::start(r#"--spec {"hog":{"size":"64"}}"#).end_and_problem();
    assert!(end == End::Code(2) && problem.contains("say 64Mi"), "{end:?} {problem}");
}

#[test]
fn nobody_need_listen() {
    let mut child =
        command("hog --size 3Mi --then-exit 6").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(6));
}

#[test]
fn cpu_is_killed_by_the_kernel_at_its_hard_limit() {
    assert_eq!(Running::start("cpu --rlimit-cpu 1s").end(), End::Signal(9));
}
