//! Goldens of every exporter from one model value, built from evidence the rules have judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::build::{Attach, LimitFacts, LimitSource, Sampler, used_of_cgroup};
use super::folded::{Folded, Profile};
use super::goroutines::GoroutineText;
use super::heap::{By, HeapText};
use super::json::Json;
use super::model::{Allocated, Cost, Events, Sizes, Subject};
use super::moment::Moment;
use super::text::Text;
use super::*;
use crate::analyze::judge;
use crate::symbolize::evidence::{
    AllocSite, Allocations, Amount, Cause, Census, CensusClass, ClassPoint, EndedBy, Evidence, Frame,
    GcPoint, GcState, GoroutineGroup, GoroutinePoint, GoroutineSite, Goroutines, Harm, Line, Loss, MapHeld,
    MapPoint, MapRow, MapSearch, MapSite, Pauses, ProbeRow, ProcessPoint, ProcessState, Remark, SizeClass,
    TypeRow,
};

mod sampled;

pub(super) use sampled::sampled;

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame::from(Line { function: function.into(), file: format!("/src/{file}"), line, ..Line::default() })
}

fn site(id: &str, stack: Vec<Frame>, ty: &str, cause: Cause, class: u8, size: u64, n: u64) -> AllocSite {
    let amount = Amount { objects: n, requested: n * size, rounded: n * size };
    AllocSite {
        id: id.into(),
        stack,
        type_name: (!ty.is_empty()).then(|| ty.to_owned()),
        cause,
        amount,
        classes: BTreeMap::from([(class, amount)]),
        first_s: 1.0,
        last_s: 130.0,
        truncated: false,
    }
}

/// A service with a map that only grows and workers nobody ends.
fn evidence() -> Evidence {
    let live = |t: u64| 200_000_000 + t * 1_887_437;
    let cycles = || (1..=14_u64).map(|c| (c * 9, c as u32));
    let sites = [
        site(
            "5b1c0a77d203",
            vec![
                frame("main.(*Cache).Put", "cache.go", 42),
                frame("main.handleLogin", "http.go", 88),
                frame("net/http.HandlerFunc.ServeHTTP", "server.go", 2_220),
                frame("net/http.(*conn).serve", "server.go", 2_092),
            ],
            "main.Session",
            Cause::New,
            26,
            320,
            5_898 * 130,
        ),
        site(
            "00ee51a2f9bc",
            vec![frame("bytes.growSlice", "buffer.go", 249), frame("main.render", "page.go", 12)],
            "",
            Cause::AppendGrowth,
            26,
            320,
            90_000 * 130,
        ),
        site("unknown", vec![], "", Cause::Other, 5, 48, 90),
    ];
    let sites = vec![sites[1].clone(), sites[0].clone(), sites[2].clone()];
    let mut total = Amount::default();
    for s in &sites {
        total.add(s.amount);
    }
    Evidence {
        at_s: 130.0,
        module: Some("example.com/checkout".into()),
        allocations: Some(Allocations { sites, total, read_at_s: 130.0, counted_s: 130.0 }),
        profile: None,
        windows: None,
        map_search: Some(MapSearch {
            span_bytes: 40 << 20,
            waiting_bytes: 24 << 20,
            unread_spans: 1,
            beyond_cap: 2,
        }),
        maps: vec![MapRow {
            id: "map[string]*main.Session@5b1c0a77d203".into(),
            type_name: Some("map[string]*main.Session".into()),
            may_be: Vec::new(),
            address: 0xc000_0120,
            variable: None,
            held: Some(MapHeld { entries: 1_900_000, capacity: Some(3_670_016), tombstones: Some(0) }),
            points: (0..20)
                .map(|i| MapPoint { t: f64::from(i), entries: 1_788_000 + 5_600 * i as u64 })
                .collect(),
            writes: Some(766_740),
            deletes: Some(0),
            grows: Some(700),
            sites: vec![MapSite {
                id: "5b1c0a77d203".into(),
                stack: vec![frame("main.(*Cache).Put", "cache.go", 44)],
                writes: 766_740,
                deletes: 0,
                grows: 700,
            }],
            places: None,
        }],
        pins: Vec::new(),
        goroutines: Some(Goroutines {
            uncounted: false,
            total: Some(10_003),
            skipped: 2,
            swapped: 0,
            stackless: 0,
            created: Some(500),
            ended: Some(376),
            counted_s: Some(130.0),
            sites: vec![
                GoroutineSite {
                    id: "9f0e11223344".into(),
                    created_by: Some(frame("main.startWorker", "worker.go", 23)),
                    created_at: Vec::new(),
                    entry: "main.worker".into(),
                    internal: false,
                    count: 9_981,
                    points: (0..=130_u32)
                        .map(|t| {
                            let count = 9_857 + u64::from(t) * 124 / 130;
                            GoroutinePoint {
                                t: f64::from(t),
                                count,
                                waiting: count,
                                oldest_wait_since: Some(-11_390.0),
                            }
                        })
                        .collect(),
                    created: Some(124),
                    ended: Some(0),
                    waits: vec![(11_520.0, 9_857), (60.0, 100), (1.5, 24)],
                    groups: vec![GoroutineGroup {
                        entry: "main.worker".into(),
                        state: "chan receive".into(),
                        waits: true,
                        stack: vec![
                            frame("main.worker.func1", "worker.go", 31),
                            frame("main.worker", "worker.go", 28),
                        ],
                        count: 9_981,
                        oldest_wait_s: Some(11_520.0),
                        examples: vec![34, 35, 36],
                    }],
                },
                GoroutineSite {
                    id: "first".into(),
                    created_by: None,
                    created_at: Vec::new(),
                    entry: "runtime.main".into(),
                    internal: false,
                    count: 1,
                    points: vec![],
                    created: None,
                    ended: None,
                    waits: Vec::new(),
                    groups: vec![GoroutineGroup {
                        entry: "runtime.main".into(),
                        state: "IO wait".into(),
                        waits: true,
                        stack: vec![frame("net/http.(*Server).Serve", "server.go", 3_285)],
                        count: 1,
                        oldest_wait_s: None,
                        examples: vec![1],
                    }],
                },
            ],
        }),
        gc: Some(GcState {
            cycles: Some(14),
            watched_s: 130.0,
            live_bytes: Some(live(126)),
            goal_bytes: Some(2 * live(126)),
            in_use_bytes: 500 << 20,
            free_bytes: 20 << 20,
            released_bytes: 4 << 20,
            mapped_bytes: 700 << 20,
            stack_bytes: 90 << 20,
            other_bytes: Some(90 << 20),
            gogc: 100,
            memory_limit: None,
            cpu_fraction: Some(0.01),
            points: cycles().map(|(t, cycle)| GcPoint { t: t as f64, cycle, live_bytes: live(t) }).collect(),
            pause: Some(Pauses { p50: 90e-6, p99: 210e-6, max: 250e-6 }),
        }),
        size_classes: vec![
            SizeClass {
                class: 5,
                size: Some(48),
                objects: 1_000,
                bytes: 48_000,
                allocs_per_s: Some(1.0),
                points: vec![],
            },
            SizeClass {
                class: 26,
                size: Some(320),
                objects: live(130) / 320,
                bytes: live(130),
                allocs_per_s: Some(95_898.0),
                points: cycles()
                    .map(|(t, cycle)| ClassPoint {
                        t: t as f64,
                        cycle,
                        objects: live(t) / 320,
                        bytes: live(t),
                    })
                    .collect(),
            },
        ],
        census: None,
        code: Some(crate::symbolize::evidence::Code {
            calls: 855,
            typed: 804,
            without_type: 20,
            undecoded: 0,
        }),
        process: Some(ProcessState {
            rss: 1_200 << 20,
            rss_anon: Some(1_150 << 20),
            rss_shmem: Some(0),
            outside_go: Some(450 << 20),
            points: vec![ProcessPoint { t: 130.0, rss: 1_200 << 20, rss_anon: Some(1_150 << 20) }],
            peak: Some(ProcessPoint { t: 130.0, rss: 1_200 << 20, rss_anon: Some(1_150 << 20) }),
        }),
        probes: vec![ProbeRow {
            function: "runtime.mallocgc".into(),
            offset: 6,
            instruction: "push".into(),
            hits: Some(12_466_830),
        }],
        losses: vec![],
        remarks: vec![],
        ended: Some(EndedBy::Signal),
    }
}

fn facts() -> SessionFacts {
    SessionFacts {
        tracer_version: "0.0.0".into(),
        kernel: "6.12.0".into(),
        target: TargetFacts {
            pid: 4_242,
            exe: "/usr/bin/checkout-svc".into(),
            go_version: "go1.26.3".into(),
            arch: "amd64".into(),
            started_at: Some(Moment { unix_ms: 1_700_000_000_000 }),
            stripped: true,
            limit: Some(LimitFacts { bytes: 4 << 30, used: None, source: LimitSource::Cgroup }),
            ..TargetFacts::default()
        },
        started_at: Moment { unix_ms: 1_700_273_470_000 },
        sampler: Sampler::All,
        sampler_reason: "every allocation counted, as asked for".into(),
        attach: Attach::Multi,
        events: Some(Events { received: 3, lost: 0, undecodable: 0 }),
        cost: Cost {
            tracer_cpu_s: Some(0.42),
            tracer_rss_bytes: Some(24 << 20),
            target_pages_bytes: Some(12 << 10),
            ..Cost::default()
        },
        ended_by: None,
    }
}

pub(super) fn written(report: &Report, exporter: &dyn Exporter) -> String {
    let mut out = Vec::new();
    exporter.write(report, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("reports are UTF-8")
}

fn sample() -> Report {
    let e = evidence();
    report(&facts(), &e, &judge(&e))
}

#[test]
fn text() {
    insta::assert_snapshot!(written(&sample(), &Text), @r"
    checkout-svc  pid 4242  go1.26.3  up 3d4h  stripped  cgroup limit 4.0 GiB
    watched 2m10s, 14 GC cycles · tracer itself used 0.42 s of CPU, 24 MiB
    12 KiB of code pages copied in the target · nothing lost
    engine: every allocation counted, as asked for

    LEAK  +57 goroutines/min (57..58, 95 %), 9 981 blocked in chan receive, oldest
          3h12m
      started    main.startWorker                 worker.go:23
      blocked    main.worker.func1                worker.go:31
             in  main.worker                      worker.go:28
      because    from 9 857 to 9 981 goroutines in 2m10s
                 124 created since attach, none ended
                 all of them wait, the longest for at least 3h12m
      do         close the channel they receive from when its senders are done, or
                 let them leave by a context

    SUSPECT  +1.8 MiB/s (1.8..1.8, 95 %) of live heap; limit reached in 27m17s at
             this rate
      in         objects of 320 B (100 % of the growth)
      type       main.Session
      allocated  main.(*Cache).Put                cache.go:42   new
             by  main.handleLogin                 http.go:88
             by  net/http.HandlerFunc.ServeHTTP   server.go:2220
             by  net/http.(*conn).serve           server.go:2092
      because    what lives after GC grows +1.8 MiB/s over 14 GC cycles (1m21s after
                 warm-up)
                 objects of 320 B grew from 272 MiB to 418 MiB: 100 % of the growth
                 main.(*Cache).Put makes 6.2 % of the objects of 320 B, 5 898/s
                 while 5 898/s stay
                 also main.render makes 94 % of the objects of 320 B, 90 000/s while
                 5 898/s stay
                 map[string]*main.Session, which main.(*Cache).Put writes to, grows
                 by 5 600/s and holds 1.9 M entries
      do         delete entries when they are done with, or bound the map

    allocated since attach: 3.7 GiB in 12 M objects, 3 sites
       3.5 GiB   94 %      12 M  bytes.growSlice buffer.go:249  append-growth
       234 MiB  6.2 %   766 740  main.(*Cache).Put cache.go:42  new main.Session
       4.2 KiB < 0.1 %        90  unknown stack  other

    maps, by entries; 766 740 writes since attach, updates included (clear,
    maps.Clone and sync.Map go past the count)
          1.9 M  map[string]*main.Session at 0xc0000120
                 room for 3.7 M, +5 600/s, 766 740 writes, 0 deletions
                 100 % of the writes by main.(*Cache).Put cache.go:44

    large maps that did not grow are looked for in parts: 24 MiB of 40 MiB wait for
    later GC cycles

    goroutines by creation site
         9 981  chan receive   main.startWorker worker.go:23  +57.2/min
             1  IO wait        the program's start

    heap 418 MiB live after GC, goal 835 MiB · GC 6.5/min, pause p99 210 us
    10 003 goroutines · 500 created and 376 ended since attach
    RSS 1.2 GiB · Go heap in use 500 MiB · stacks 90 MiB · Go other 90 MiB
    heap idle 20 MiB · outside Go at least 450 MiB
    next: tracer goroutines --pid 4242
    ");
}

#[test]
fn a_limit_is_used_up_by_everyone_under_it() {
    let e = evidence();
    let eta = |used| {
        let mut facts = facts();
        facts.target.limit = Some(LimitFacts { bytes: 4 << 30, used, source: LimitSource::Cgroup });
        let report = report(&facts, &e, &judge(&e));
        report.target.limit.and_then(|limit| limit.eta_s)
    };
    let alone = eta(None).unwrap();
    // Another process takes half of what this one left.
    let left = (4 << 30) - used_of_cgroup(e.process.as_ref().unwrap());
    let shared = eta(Some((4 << 30) - left / 2)).unwrap();
    assert!((shared / alone - 0.5).abs() < 1e-6, "{shared} s of {alone} s");
    assert_eq!(eta(Some(5 << 30)), Some(0.0));
}

#[test]
fn text_of_a_session_without_probes_that_lost_something() {
    let mut e = evidence();
    e.allocations = None;
    e.goroutines = None;
    e.gc.as_mut().expect("the sample has it").points.truncate(8);
    e.losses = vec![
        Loss { name: "alloc_table_full", count: 12, harm: Harm::Totals },
        Loss { name: "goroutine_torn", count: 3, harm: Harm::None },
        Loss { name: "page_swapped", count: 7_204, harm: Harm::Attribution },
    ];
    e.remarks = vec![
        Remark::SiteRefused { function: "runtime.newproc1".into(), why: "no usable instruction".into() },
        Remark::ReadingFailed { what: "goroutines".into(), why: "cannot read".into() },
    ];
    let facts = SessionFacts {
        sampler: Sampler::None,
        sampler_reason: "memory is read; allocation sites need --sampler all".into(),
        cost: Cost { target_pages_bytes: Some(0), ..facts().cost },
        ..facts()
    };
    let report = report(&facts, &e, &judge(&e));
    assert!(!report.session.complete && report.session.lower_bounds);
    insta::assert_snapshot!(written(&report, &Text), @r"
    checkout-svc  pid 4242  go1.26.3  up 3d4h  stripped  cgroup limit 4.0 GiB
    watched 2m10s, 14 GC cycles · tracer itself used 0.42 s of CPU, 24 MiB
    LOSSES: totals are lower bounds
    engine: memory is read; allocation sites need --sampler all

    SUSPECT  +5 600 entries/s (5 600..5 600, 95 %), 1.9 M in it
      map        map[string]*main.Session
      written    main.(*Cache).Put                cache.go:44
      because    from 1.8 M to 1.9 M entries in 19s
                 766 740 writes and no deletion since attach
                 100 % of the writes come from there
      do         delete entries when they are done with, or bound the map

    NOT YET  goroutine-growth: goroutines have not been read; needs one reading

    NOT YET  heap-growth: 8 GC cycles since attach; needs 4 more GC cycles, about
             7m2s: a quiet Go program makes one every 2 minutes, the last was 58s
             ago

    maps, by entries; 766 740 writes since attach, updates included (clear,
    maps.Clone and sync.Map go past the count)
          1.9 M  map[string]*main.Session at 0xc0000120
                 room for 3.7 M, +5 600/s, 766 740 writes, 0 deletions
                 100 % of the writes by main.(*Cache).Put cache.go:44

    large maps that did not grow are looked for in parts: 24 MiB of 40 MiB wait for
    later GC cycles

    heap 418 MiB live after GC, goal 835 MiB · GC 6.5/min, pause p99 210 us
    RSS 1.2 GiB · Go heap in use 500 MiB · stacks 90 MiB · Go other 90 MiB
    heap idle 20 MiB · outside Go at least 450 MiB
    lost (totals are lower bounds): alloc_table_full 12, goroutine_torn 3,
    page_swapped 7 204
    note: runtime.newproc1 is not probed: no usable instruction
    note: reading goroutines failed: cannot read
    ");
}

#[test]
fn what_is_swapped_out_is_said_where_goroutines_are() {
    let mut e = evidence();
    let g = e.goroutines.as_mut().expect("the sample has it");
    (g.skipped, g.swapped, g.stackless) = (106, 104, 7_100);
    let r = report(&facts(), &e, &judge(&e));
    let head: Vec<String> = written(&r, &GoroutineText).lines().take(4).map(str::to_owned).collect();
    insta::assert_snapshot!(head.join("\n"), @r"
    10 003 goroutines in 2 groups; 2 changed while they were read and are in no
    group
    swapped-out pages were not read, so as not to bring them back: 7 100 goroutines
    without a stack, 104 goroutines in no group
    ");
    let text = written(&r, &Text);
    let note: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("note: ")).collect();
    insta::assert_snapshot!(note.join("\n"), @r"
    note: swapped-out pages were not read, so as not to bring them back: 7 100
          goroutines without a stack, 104 goroutines in no group
    next: tracer goroutines --pid 4242
    ");
}

#[test]
fn goroutine_table() {
    insta::assert_snapshot!(written(&sample(), &GoroutineText), @r"
    10 003 goroutines in 2 groups; 2 changed while they were read and are in no
    group

    9 981  chan receive, oldest at least 3h12m
      started  main.startWorker                   worker.go:23
      runs     main.worker
      waits    half of 9 981 have waited 3h12m or longer, one in ten 3h12m
      at       main.worker.func1                  worker.go:31
               main.worker                        worker.go:28
      ids      34 35 36

    1  IO wait
      started  by the program's start
      runs     runtime.main
      at       net/http.(*Server).Serve           server.go:3285
      ids      1
    ");
}

#[test]
fn a_findings_sizes_are_said_where_they_differ() {
    let mut r = sample();
    let site = |f: &model::Finding| if let Subject::Site(id) = &f.subject { Some(id.clone()) } else { None };
    let id = r.findings.iter().find_map(site).expect("a finding of a site");
    assert!(!written(&r, &Text).contains("  sizes "), "all are of one size");
    for row in r.allocations.iter_mut().flatten().filter(|row| row.site == id) {
        let max = Some(1_258_291);
        row.sizes = Some(Sizes { p50: 48, p90: 320, p99: 4096, max, of: "samples" });
    }
    let text = written(&r, &Text);
    assert!(
        text.contains("  sizes      half up to 48 B, 99 % up to 4.0 KiB, the largest 1.2 MiB\n"),
        "{text}"
    );
}

#[test]
fn folded() {
    let mut r = sample();
    r.allocations.as_mut().expect("the sample has it")[1].stack[0].function = "main.a;b\u{1b}[2J".into();
    let all: Vec<String> = [Profile::AllocSpace, Profile::AllocObjects, Profile::Goroutine]
        .into_iter()
        .map(|profile| written(&r, &Folded { profile }))
        .collect();
    insta::assert_snapshot!(all.join("---\n"), @r"
    main.render;bytes.growSlice 3744000000
    net/http.(*conn).serve;net/http.HandlerFunc.ServeHTTP;main.handleLogin;main.a:b\u{1b}[2J 245356800
    unknown stack 4320
    ---
    main.render;bytes.growSlice 11700000
    net/http.(*conn).serve;net/http.HandlerFunc.ServeHTTP;main.handleLogin;main.a:b\u{1b}[2J 766740
    unknown stack 90
    ---
    main.worker;main.worker.func1 9981
    net/http.(*Server).Serve 1
    ");
}

#[test]
fn json() {
    let mut r = sample();
    // The series are long and say nothing about the form.
    let heap = r.heap.as_mut().expect("the sample has it");
    heap.series.truncate(1);
    insta::assert_snapshot!(written(&r, &Json));
}

#[test]
fn nothing_of_the_target_reaches_the_terminal_raw() {
    let evil = "main.\u{1b}]0;owned\u{7}\u{202e}f\r\n";
    let mut e = evidence();
    let all = e.allocations.as_mut().expect("the sample has it");
    all.sites[1].stack[0] = frame(evil, "cache.go", 43);
    all.sites[1].type_name = Some(evil.into());
    e.maps[0].sites[0].stack[0] = frame(evil, "cache.go", 42);
    e.maps[0].type_name = Some(evil.into());
    let g = e.goroutines.as_mut().expect("the sample has it");
    g.sites[0].created_by = Some(frame(evil, evil, 1));
    g.sites[0].groups[0].stack[0] = frame(evil, "cache.go", 42);
    g.sites[0].groups[0].state = evil.into();
    let r = report(&facts(), &e, &judge(&e));
    assert_eq!(r.findings.len(), 2);
    for text in [
        written(&r, &Text),
        written(&r, &GoroutineText),
        written(&r, &Folded { profile: Profile::AllocSpace }),
        written(&r, &Folded { profile: Profile::Goroutine }),
        written(&r, &Json).replace('\u{202e}', ""),
    ] {
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text}");
    }
}

#[test]
fn the_same_evidence_gives_the_same_bytes() {
    assert_eq!(written(&sample(), &Json), written(&sample(), &Json));
}

/// A heap of sessions, of one class whose types cannot be told apart, and of strings.
fn counted() -> Census {
    let class = |class, size, noscan, objects, since_objects| CensusClass {
        class,
        size: Some(size),
        noscan,
        spans: objects * size / 8192 + 1,
        objects,
        bytes: objects * size,
        since_objects,
        since_bytes: since_objects * size,
        points: Vec::new(),
    };
    let row = |names: &[&str], objects: u64, size: u64, stderr: f64| TypeRow {
        candidates: names.iter().map(|name| (*name).to_owned()).collect(),
        objects,
        bytes: objects * size,
        objects_stderr: stderr,
        bytes_stderr: stderr * size as f64,
        hits: objects.min(2_000),
        unproven: false,
        classes: Vec::new(),
        places: None,
    };
    Census {
        at_s: 129.0,
        cycle: 14,
        cycle_end: 14,
        classes: vec![
            class(5, 48, false, 4_000, 10),
            class(5, 48, true, 9_000, 0),
            class(25, 320, false, 600_000, 70),
        ],
        manual_spans: 40,
        manual_bytes: 40 * 8192,
        torn: 3,
        types: Some(vec![
            row(&["main.Session"], 600_000, 320, 0.0),
            row(&["main.edge", "main.link"], 3_000, 48, 28.0),
            row(&[], 1_000, 48, 28.0),
        ]),
        ..Census::default()
    }
}

#[test]
fn the_heap_by_type_and_by_size() {
    let evidence = Evidence { census: Some(counted()), ..evidence() };
    let report = report(&facts(), &evidence, &judge(&evidence));
    insta::assert_snapshot!(written(&report, &HeapText { by: By::Type }), @r"
    184 MiB in 613 000 objects survived GC cycle 14; 22 KiB in 80 objects allocated
    since, garbage included
    in 23 515 spans; 320 KiB in stacks and the collector's buffers

          bytes   share   objects  type
        183 MiB   100 %   600 000  main.Session
        422 KiB   0.2 %     9 000  no pointers, 48-byte class
       ~141 KiB < 0.1 %    ~3 000  one of main.edge | main.link
        ~47 KiB < 0.1 %    ~1 000  with pointers, type not known
    note: ~ is scaled from 5 000 objects that were looked at, evenly spread over
          each size class
    note: 3 spans changed each time they were read and are in no figure
    ");
    insta::assert_snapshot!(written(&report, &HeapText { by: By::Size }), @r"
    184 MiB in 613 000 objects survived GC cycle 14; 22 KiB in 80 objects allocated
    since, garbage included
    in 23 515 spans; 320 KiB in stacks and the collector's buffers

          bytes   share   objects  size
        183 MiB   100 %   600 000  320 bytes, with pointers, 70 new since
        422 KiB   0.2 %     9 000  48 bytes, no pointers
        188 KiB < 0.1 %     4 000  48 bytes, with pointers, 10 new since
    note: 3 spans changed each time they were read and are in no figure
    ");
    let heap = report.heap.expect("there is a heap");
    let rows: Vec<(u8, Option<bool>, u64)> =
        heap.size_classes.iter().map(|c| (c.class, c.noscan, c.objects)).collect();
    assert_eq!(rows, [(5, Some(false), 4_000), (5, Some(true), 9_000), (25, Some(false), 600_000)]);
    let types = heap.types.expect("there are types");
    assert_eq!(types[1].type_name.as_deref(), Some("main.edge | main.link"));
    assert_eq!(
        (types[1].candidates.len(), types[0].candidates.len(), types[2].type_name.is_none()),
        (2, 0, true)
    );
}

#[test]
fn lines_are_said_once_and_end_with_the_end() {
    let report = sampled();
    let mut lines = super::jsonl::Lines::default();
    let mut text = Vec::new();
    lines.write(&report, false, &mut text).unwrap();
    let first = text.len();
    lines.write(&report, false, &mut text).unwrap();
    // Only the goroutines are of the moment.
    assert_eq!(std::str::from_utf8(&text[first..]).unwrap().lines().count(), 1);
    lines.write(&report, true, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let kinds: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["line"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((kinds[0].as_str(), kinds[kinds.len() - 1].as_str()), ("session", "end"));
    assert_eq!(kinds.iter().filter(|k| *k == "heap").count(), 14);
}
