//! What single rules must see, said one by one.

use exit137::cause::{Cause, Confidence, Detail};
use exit137::diagnosis::{Attribution, Findings};
use exit137::evidence::{
    End, Fact, KernelKilled, Moment, Observation, PIDS_OF_A_MACHINE, Source, SourceState, StopReason,
    VictimMarked,
};

use crate::ablation::without;
use crate::laws::judge;
use crate::stream::{At, Log, MIB, Plan, Run, Stream};

const KILLED: End = End::Signaled(9);

fn played(version: u8, play: impl FnOnce(&mut Stream, &Run)) -> Vec<Observation> {
    let mut stream = Stream::on(version);
    let run = stream.start("web", "app", Plan::default());
    play(&mut stream, &run);
    stream.finish(&[])
}

fn only(findings: &Findings) -> &Attribution {
    assert_eq!(findings.terminations.len(), 1, "{findings:#?}");
    findings.terminations[0].attribution.as_ref().unwrap()
}

#[test]
fn the_kill_and_the_end_are_two_moments_each_with_its_source() {
    let observations = played(2, |s, run| {
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.wait(240);
        s.end(run, KILLED);
    });
    let end = &judge(&observations).terminations[0];
    let (killed, ended) = (end.killed_at.unwrap(), end.ended_at.unwrap());
    assert_eq!((killed.source, ended.source), (Source::Trace, Source::Runtime));
    assert!(ended.moment.earliest() - killed.moment.latest() > 240_000_000);

    let from_log = &judge(&without(&observations, &[Source::Trace])).terminations[0];
    assert_eq!(from_log.killed_at.unwrap().source, Source::Kmsg);
    let from_counters = &judge(&without(&observations, &[Source::Trace, Source::Kmsg])).terminations[0];
    let counted = from_counters.killed_at.unwrap();
    assert_eq!(counted.source, Source::Memcg);
    assert!(
        counted.moment.earliest() <= killed.moment.latest()
            && killed.moment.earliest() <= counted.moment.latest()
    );
}

#[test]
fn an_exit_by_itself_has_no_moment_of_a_kill() {
    let findings = judge(&played(1, |s, run| s.end(run, End::Exited(137))));
    assert_eq!(findings.terminations[0].killed_at, None);
}

#[test]
fn an_external_kill_names_its_sender() {
    let findings = judge(&played(1, |s, run| {
        s.kill((77, "bash"), run.pid);
        s.end(run, KILLED);
    }));
    let sender = only(&findings).sender.clone().unwrap();
    assert_eq!((sender.pid, sender.comm.as_str()), (77, "bash"));
}

#[test]
fn the_runtimes_sigkill_without_the_kubelets_word_is_never_an_external_kill() {
    let observations = played(1, |s, run| {
        s.stop(run, StopReason::LivenessProbe, 1_000);
        s.wait(1_000).runtime_kill(run);
        s.end(run, KILLED);
    });
    let findings = judge(&without(&observations, &[Source::Kubelet]));
    let found = only(&findings);
    assert_eq!(found.cause, Cause::Undetermined);
    assert!(found.missing.iter().any(|missing| missing.source == Source::Kubelet), "{found:#?}");
}

#[test]
fn counters_alone_do_not_choose_between_a_childs_oom_and_a_kill_of_the_main_process() {
    for by_hand in [true, false] {
        let observations = played(2, |s, run| {
            let child = s.child(run);
            s.oom(run, if by_hand { child } else { run.pid }, At::Container, Log::Whole, &[]);
            if by_hand {
                s.wait(5).kill((77, "bash"), run.pid);
            }
            s.end(run, KILLED);
        });
        let findings = judge(&without(&observations, &[Source::Kmsg, Source::Trace]));
        assert_eq!(only(&findings).cause, Cause::Undetermined);
        assert!(findings.hidden_kills.is_empty(), "the counted kill may have been the main process's");
    }
}

#[test]
fn a_process_that_the_runtime_had_to_kill_long_after_a_counted_kill_was_not_its_victim() {
    let observations = played(2, |s, run| {
        let unseen = s.child(run);
        s.oom(run, unseen, At::Container, Log::Whole, &[]);
        s.stop(run, StopReason::Delete, 1_000);
        s.wait(1_000).runtime_kill(run);
        s.end(run, KILLED);
    });
    let less: Vec<_> = without(&observations, &[Source::Kmsg, Source::Trace])
        .into_iter()
        .filter(|seen| !matches!(seen.fact, Fact::Process(_)))
        .collect();
    assert_ne!(only(&judge(&less)).cause, Cause::ContainerOom);
}

#[test]
fn a_kill_is_not_called_hidden_where_the_runtime_fell_silent_before_it_could_tell_of_an_end() {
    let observations = played(2, |s, run| {
        let child = s.child(run);
        s.oom(run, child, At::Container, Log::Whole, &[]);
        s.end(run, End::Exited(137));
    });
    let silent: Vec<_> = observations
        .into_iter()
        .filter(|seen| {
            !matches!(seen.fact, Fact::Ended(_) | Fact::Source(SourceState::Complete { of: Source::Runtime }))
        })
        .collect();
    assert_eq!(judge(&silent).hidden_kills, []);
}

#[test]
fn threads_of_a_victim_that_mark_themselves_while_they_die_are_no_children() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    // The tracepoint of fork tells of threads too.
    let threads: Vec<u32> = (0..3).map(|_| stream.child(&run)).collect();
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    for pid in threads {
        stream.wait(1);
        stream.see(Source::Trace, Fact::Victim(VictimMarked { pid, comm: Some("victim".to_owned()) }));
    }
    stream.end(&run, End::Signaled(9));
    let findings = judge(&stream.finish(&[]));
    assert_eq!(findings.hidden_kills, []);
    let found = findings.terminations[0].attribution.as_ref().unwrap();
    assert_eq!((found.cause, found.confidence), (Cause::ContainerOom, Confidence::Certain));
}

#[test]
fn a_process_that_was_dying_already_may_be_marked_as_a_victim() {
    let findings = judge(&played(2, |s, run| {
        s.kill((77, "bash"), run.pid);
        s.see(Source::Trace, Fact::Victim(VictimMarked { pid: run.pid, comm: None }));
        s.end(run, KILLED);
    }));
    assert_eq!(only(&findings).cause, Cause::ExternalKill);
}

#[test]
fn a_kernel_log_that_lost_records_takes_certainty_from_what_leans_on_it() {
    let mut observations = without(
        &played(2, |s, run| {
            s.wait(6_000);
            s.see(Source::Kmsg, Fact::Source(SourceState::Gap { of: Source::Kmsg, lost: 12 }));
            s.end(run, End::Exited(137));
        }),
        &[Source::Memcg, Source::Trace],
    );
    let findings = judge(&observations);
    assert_eq!(only(&findings).cause, Cause::Undetermined);
    assert!(only(&findings).missing.iter().any(|m| m.source == Source::Kmsg && m.why.contains("12")));

    observations.retain(|seen| !matches!(seen.fact, Fact::Source(SourceState::Gap { .. })));
    let findings = judge(&observations);
    assert_eq!((only(&findings).cause, only(&findings).confidence), (Cause::Exit137, Confidence::High));
}

#[test]
fn a_source_that_died_before_the_end_cannot_say_that_nothing_happened() {
    let mut observations = without(&played(2, |s, run| s.end(run, KILLED)), &[Source::Memcg]);
    for seen in &mut observations {
        if seen.fact == Fact::Source(SourceState::Complete { of: Source::Trace }) {
            seen.fact = Fact::Source(SourceState::Lost { of: Source::Trace, reason: "gone".to_owned() });
        }
    }
    assert_eq!(only(&judge(&observations)).cause, Cause::Undetermined);
}

#[test]
fn a_pid_that_came_round_again_after_its_container_ended_is_somebody_elses() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan::default());
    let child = stream.child(&run);
    stream.end(&run, End::Exited(0));
    stream.wait(2_000);
    for pid in [run.pid, child] {
        let killed = KernelKilled {
            pid,
            comm: "victim".to_owned(),
            memcg: true,
            anon_rss: MIB,
            file_rss: 0,
            shmem_rss: 0,
            oom_score_adj: None,
        };
        stream.see(Source::Kmsg, Fact::KernelKilled(killed));
    }
    let findings = judge(&stream.finish(&[]));
    assert_eq!(findings.terminations[0].attribution, None);
    assert!(findings.hidden_kills.is_empty(), "{:#?}", findings.hidden_kills);
}

#[test]
fn a_childs_pid_that_came_round_again_while_the_container_lives_is_told_by_the_counter() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    let child = stream.child(&run);
    stream.see(Source::Trace, Fact::Victim(VictimMarked { pid: child, comm: None }));
    stream.wait(1_000);
    let findings = judge(&stream.finish(&[&run]));
    assert!(findings.hidden_kills.is_empty(), "{:#?}", findings.hidden_kills);
}

#[test]
fn a_victim_that_a_group_kill_prints_twice_is_one_victim() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan { group: true, ..Plan::default() });
    stream.oom(&run, run.pid, At::Container, Log::Whole, &[]);
    stream.end(&run, KILLED);
    let observations = stream.finish(&[]);
    let lines = observations.iter().filter(|seen| matches!(seen.fact, Fact::KernelKilled(_))).count();
    assert_eq!(lines, 2);
    let findings = judge(&observations);
    assert_eq!((only(&findings).cause, findings.hidden_kills.len()), (Cause::ContainerOom, 0));
}

#[test]
fn what_the_tear_down_ended_is_a_survivor_and_what_died_before_it_is_not() {
    let mut stream = Stream::on(1);
    let lives = stream.start("web", "lives", Plan::default());
    let dies = stream.start("web", "dies", Plan::default());
    stream.oom(&dies, dies.pid, At::Container, Log::Whole, &[]);
    // It is large: the run is over before it is reaped.
    stream.stop(&dies, StopReason::TearDown, 100);
    stream.wait(240);
    stream.end(&dies, KILLED);
    let findings = judge(&stream.finish(&[&lives]));
    assert_eq!(only(&findings).cause, Cause::ContainerOom);
    assert_eq!(findings.survivors, vec![lives.container.clone()]);
}

#[test]
fn what_was_being_stopped_when_the_observation_ended_is_a_survivor_with_a_note() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    let other = stream.start("web", "other", Plan::default());
    stream.stop(&run, StopReason::LivenessProbe, 2_000);
    stream.wait(1_000);
    let findings = judge(&stream.finish(&[&run, &other]));
    assert_eq!(findings.survivors.len(), 2);
    let why = "web/app#0 was being stopped (its liveness probe failed) when the observation ended";
    assert_eq!(findings.notes.len(), 1, "{:?}", findings.notes);
    assert!(findings.notes[0].starts_with(why), "{:?}", findings.notes);
}

#[test]
fn oom_kills_in_the_tear_down_are_not_the_scenarios() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    let child = stream.child(&run);
    stream.stop(&run, StopReason::TearDown, 100);
    stream.wait(50);
    stream.oom(&run, child, At::Container, Log::Whole, &[]);
    stream.end(&run, KILLED);
    let findings = judge(&stream.finish(&[]));
    assert!(findings.terminations.is_empty() && findings.hidden_kills.is_empty(), "{findings:#?}");
}

#[test]
fn a_hidden_kill_that_only_the_counter_knows_is_listed_without_a_name() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    let child = stream.child(&run);
    stream.oom(&run, child, At::Container, Log::Whole, &[]);
    stream.wait(300);
    let observations = stream.finish(&[&run]);
    let findings = judge(&without(&observations, &[Source::Kmsg, Source::Trace]));
    assert_eq!(findings.hidden_kills.len(), 1);
    let kill = &findings.hidden_kills[0];
    assert_eq!((kill.pid, kill.attribution.detail), (None, Some(Detail::Hidden)));
    assert_eq!(kill.attribution.confidence, Confidence::High);
}

#[test]
fn a_liveness_kill_while_thrashing_mentions_the_memory_and_a_stop_before_an_oom_is_mentioned_too() {
    let thrashing = judge(&played(2, |s, run| {
        s.thrash(run, 4_000);
        s.stop(run, StopReason::LivenessProbe, 1_000);
        s.wait(1_000).runtime_kill(run);
        s.end(run, KILLED);
    }));
    assert!(only(&thrashing).also_seen.iter().any(|seen| seen.contains("memory pressure")));

    let in_grace = judge(&played(2, |s, run| {
        s.stop(run, StopReason::Delete, 2_000);
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.end(run, KILLED);
    }));
    assert!(only(&in_grace).also_seen.iter().any(|seen| seen.contains("pod was deleted")));
}

#[test]
fn of_two_decisions_the_one_whose_grace_ended_first_is_the_cause() {
    let findings = judge(&played(1, |s, run| {
        s.stop(run, StopReason::LivenessProbe, 30_000);
        s.wait(1_000).stop(run, StopReason::Delete, 2_000);
        s.wait(2_000).runtime_kill(run);
        s.end(run, KILLED);
    }));
    assert_eq!(only(&findings).cause, Cause::GracePeriod);
}

#[test]
fn a_refused_limit_is_noted_and_the_container_lives() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan::default());
    stream.limit(run.path(), 64 * MIB, 4 * MIB, Some("EBUSY"));
    let findings = judge(&stream.finish(&[&run]));
    assert!(findings.terminations.is_empty());
    assert!(findings.notes.iter().any(|note| note.contains("EBUSY")), "{:?}", findings.notes);
}

#[test]
fn where_only_the_number_137_is_known_it_is_neither_exit_nor_signal() {
    let mut observations = played(2, |s, run| s.end(run, End::Code(137)));
    observations.retain(|seen| seen.source != Source::Trace || matches!(seen.fact, Fact::Source(_)));
    let findings = judge(&without(&observations, &[Source::Trace]));
    assert_eq!(only(&findings).cause, Cause::Undetermined);
}

#[test]
fn pids_mean_nothing_outside_of_the_initial_pid_namespace() {
    let mut observations = played(2, |s, run| {
        s.oom(run, run.pid, At::Container, Log::NoSummary, &[]);
        s.end(run, End::Exited(1));
    });
    for seen in &mut observations {
        if let Fact::Host(host) = &mut seen.fact {
            host.initial_pid_namespace = false;
        }
        // The kernel log of a host whose PIDs happen to be the same ones; our own cgroup counted nothing.
        if let Fact::Counters(counters) = &mut seen.fact {
            counters.oom_kill_local = Some(0);
        }
    }
    let findings = judge(&observations);
    assert!(findings.hidden_kills.is_empty(), "{:#?}", findings.hidden_kills);
    assert!(findings.notes.iter().any(|note| note.contains("not known")), "{:?}", findings.notes);
}

#[test]
fn what_one_machine_logs_of_a_group_is_not_said_of_another_machines_victim() {
    let mut stream = Stream::on(2);
    let here = stream.start("web", "app", Plan::default());
    let there = stream.start("db", "app", Plan::default());
    let killed = KernelKilled {
        pid: PIDS_OF_A_MACHINE + 9,
        comm: "other".to_owned(),
        memcg: true,
        anon_rss: MIB,
        file_rss: 0,
        shmem_rss: 0,
        oom_score_adj: None,
    };
    stream.see(Source::Kmsg, Fact::KernelKilled(killed));
    stream.oom(&here, here.pid, At::Container, Log::NoSummary, &[]);
    stream.see(Source::Kmsg, Fact::OomGroup { cgroup: there.path() });
    stream.end(&here, KILLED);
    let findings = judge(&stream.finish(&[&there]));
    assert_eq!(
        (only(&findings).cause, findings.hidden_kills.len()),
        (Cause::ContainerOom, 0),
        "{findings:#?}"
    );
}

#[test]
fn restarts_are_runs_of_the_same_container() {
    let mut stream = Stream::on(1);
    for instance in 0..3 {
        let run = stream.start_instance("web", "app", instance, Plan::default());
        stream.oom(&run, run.pid, At::Pod, Log::Whole, &[]);
        stream.end(&run, KILLED);
    }
    let findings = judge(&stream.finish(&[]));
    let instances: Vec<u32> = findings.terminations.iter().map(|end| end.container.instance).collect();
    assert_eq!(instances, [0, 1, 2]);
    assert_eq!(findings.starts[0].1, 3);
}

#[test]
fn a_counter_read_as_an_instant_changed_since_the_reading_before() {
    let mut observations = played(2, |s, run| {
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.end(run, KILLED);
    });
    let before = judge(&observations).terminations[0].killed_at.unwrap().moment;
    for seen in &mut observations {
        if seen.source == Source::Memcg {
            seen.moment = Moment::exactly(seen.moment.latest());
        }
    }
    let findings = judge(&without(&observations, &[Source::Trace, Source::Kmsg]));
    let counted = findings.terminations[0].killed_at.unwrap().moment;
    assert!(counted.earliest() <= before.earliest() && before.latest() <= counted.latest());
    assert_eq!(only(&findings).confidence, Confidence::High);
}

#[test]
fn a_limit_that_is_lowered_just_after_an_oom_did_not_cause_it() {
    let findings = judge(&played(2, |s, run| {
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.wait(3);
        s.limit(run.path(), 64 * MIB, 16 * MIB, None);
        s.end(run, KILLED);
    }));
    assert_eq!(only(&findings).cause, Cause::ContainerOom);
}

#[test]
fn a_process_killed_right_after_the_write_held_more_than_the_new_limit() {
    let findings = judge(&played(2, |s, run| {
        s.limit(run.path(), 64 * MIB, 16 * MIB, None);
        s.wait(150);
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.end(run, KILLED);
    }));
    assert_eq!(only(&findings).cause, Cause::ResizeOom);
}

#[test]
fn removing_a_cgroup_fires_its_eventfd_and_that_is_no_oom() {
    let mut stream = Stream::on(1);
    let run = stream.start("web", "app", Plan { neighbours: 1, pod_level_limit: true, ..Plan::default() });
    stream.oom(&run, run.pid, At::Container, Log::NoSummary, &[]);
    stream.end(&run, KILLED);
    // The last readings and removals of pod and node follow within milliseconds.
    let findings = judge(&stream.finish(&[]));
    assert_eq!((only(&findings).cause, only(&findings).confidence), (Cause::ContainerOom, Confidence::High));
}

#[test]
fn a_lowered_limit_and_counters_alone_do_not_say_which_came_first() {
    // A write that waited for the victim's memory is stamped after the kill it caused; a safe one came long before.
    let after = played(2, |s, run| {
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.wait(300);
        s.limit(run.path(), 64 * MIB, 32 * MIB, None);
        s.end(run, KILLED);
    });
    let before = played(2, |s, run| {
        s.limit(run.path(), 64 * MIB, 60 * MIB, None);
        s.wait(3_000);
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.end(run, KILLED);
    });
    for observations in [before, after] {
        let findings = judge(&without(&observations, &[Source::Kmsg, Source::Trace]));
        assert_eq!(only(&findings).cause, Cause::Undetermined);
        assert!(only(&findings).missing.iter().any(|missing| missing.source == Source::Kmsg));
    }
}

#[test]
fn a_death_without_any_signal_takes_a_second_witness() {
    let observations = played(2, |s, run| s.end(run, KILLED));
    assert_eq!(only(&judge(&observations)).detail, Some(Detail::Seccomp));
    let alone = judge(&without(&observations, &[Source::Kmsg, Source::Memcg]));
    assert_eq!(only(&alone).cause, Cause::Undetermined);
}

#[test]
fn a_group_kill_whose_first_victim_nobody_knows_is_not_put_down_to_the_main_process() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan { group: true, ..Plan::default() });
    let never_seen = stream.pid();
    stream.oom(&run, never_seen, At::Container, Log::NoSummary, &[run.pid]);
    stream.end(&run, KILLED);
    let observations = stream.finish(&[]);
    assert_eq!(
        only(&judge(&observations)).detail,
        Some(Detail::ContainerStopped),
        "the group's line tells whose it was"
    );
    assert_eq!(only(&judge(&without(&observations, &[Source::Kmsg]))).cause, Cause::Undetermined);
}

#[test]
fn kills_of_other_scenarios_do_not_disturb_a_group_kill_without_a_summary() {
    let mut stream = Stream::on(2);
    let run = stream.start("web", "app", Plan { group: true, ..Plan::default() });
    stream.foreign_oom(Log::NoSummary);
    stream.oom(&run, run.pid, At::Pod, Log::NoSummary, &[]);
    stream.end(&run, KILLED);
    let findings = judge(&stream.finish(&[]));
    assert_eq!((only(&findings).cause, only(&findings).confidence), (Cause::ContainerOom, Confidence::High));
}

#[test]
fn a_process_that_exits_with_137_long_after_its_childs_oom_kill_is_not_said_to_have_passed_it_on() {
    let late = |ms: u64| {
        judge(&played(1, |s, run| {
            let child = s.child(run);
            s.oom(run, child, At::Container, Log::Whole, &[]);
            s.wait(ms);
            s.end(run, End::Exited(137));
        }))
    };
    assert_eq!(only(&late(50)).cause, Cause::ChildOom);
    let findings = late(4_000);
    assert_eq!(only(&findings).cause, Cause::Undetermined);
    assert_eq!(findings.hidden_kills.len(), 1, "its child was OOM-killed all the same");
    assert_eq!(only(&late(6_000)).cause, Cause::Exit137);
}

#[test]
fn a_process_that_grew_up_to_a_limit_lowered_before_was_not_killed_by_the_lowering() {
    for version in [1, 2] {
        let findings = judge(&played(version, |s, run| {
            s.limit(run.path(), 128 * MIB, 64 * MIB, None);
            s.wait(2_900);
            s.oom(run, run.pid, At::Container, Log::Whole, &[]);
            s.end(run, KILLED);
        }));
        assert_eq!(only(&findings).cause, Cause::ContainerOom, "v{version}");
    }
}

#[test]
fn no_lowered_limit_ever_killed_on_cgroup_v1() {
    let findings = judge(&played(1, |s, run| {
        s.limit(run.path(), 64 * MIB, 16 * MIB, None);
        s.oom(run, run.pid, At::Container, Log::Whole, &[]);
        s.end(run, KILLED);
    }));
    assert_eq!(only(&findings).cause, Cause::ContainerOom);
}

#[test]
fn a_userspace_oom_killer_is_told_by_its_name_from_other_senders() {
    let by = |comm: &str| {
        judge(&played(2, |s, run| {
            let sender = s.pid();
            s.kill((sender, comm), run.pid);
            s.end(run, KILLED);
        }))
    };
    let findings = by("systemd-oomd");
    assert_eq!((only(&findings).cause, only(&findings).confidence), (Cause::UserspaceOom, Confidence::High));
    assert_eq!(only(&by("bash")).cause, Cause::ExternalKill);
}

#[test]
fn an_ephemeral_container_makes_the_pods_limit_the_pods_affair() {
    for version in [1, 2] {
        let mut stream = Stream::on(version);
        let app = stream.start("web", "app", Plan::default());
        let debugger = stream.start("web", "debugger", Plan { limit: None, ..Plan::default() });
        stream.oom(&app, app.pid, At::Pod, Log::Whole, &[]);
        stream.end(&app, KILLED);
        let observations = stream.finish(&[&debugger]);
        assert_eq!(only(&judge(&observations)).cause, Cause::PodOom, "v{version}");
    }
}
