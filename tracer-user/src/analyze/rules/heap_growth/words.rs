//! The sentences of heap-growth: one finding for what grows from one cause.

use crate::analyze::{
    Finding, Growth, HeapPart, HeapTrend, Live, LiveWithin, PartOf, Seen, SitesBy, Slope, Subject, Verdict,
    code, figures, own,
};
use crate::sampling::Interval;
use crate::symbolize::evidence::Cause;

/// The sum of what parts grow by.
pub(in crate::analyze) fn sum(parts: &[HeapPart]) -> Slope {
    parts.iter().fold(Slope { per_unit: 0.0, low: 0.0, high: 0.0 }, |sum, p| Slope {
        per_unit: sum.per_unit + p.slope.per_unit,
        low: sum.low + p.slope.low,
        high: sum.high + p.slope.high,
    })
}

/// One finding for parts that grow from one cause. They are not empty, the fastest first.
pub(in crate::analyze) fn compose(parts: Vec<HeapPart>, total: HeapTrend, module: Option<&str>) -> Finding {
    let slope = sum(&parts);
    let lead = parts.iter().find(|p| !p.candidates.is_empty());
    let first = lead.and_then(|p| p.candidates.first());
    let grown = parts.iter().find_map(|p| p.types.first());
    let places = grown.and_then(|t| t.places.as_ref());
    let followed = first.is_some_and(|c| c.live.is_some());
    let place = first.and_then(|c| own::place(&c.stack, module));
    let type_name = first.and_then(|c| c.type_name.clone()).or_else(|| grown.map(|t| t.names.join(" | ")));
    // A census counts all objects of a type, whoever allocated them; a sample knows the site's own.
    let of_type = grown.filter(|t| type_name.as_ref() == Some(&t.names.join(" | "))).map(|t| t.live);
    let live = of_type.or(first.and_then(|c| c.live));
    let rate = figures::byte_rate_interval(slope.per_unit, slope.low, slope.high);
    let names: Vec<String> = parts.iter().map(HeapPart::name).collect();
    let title = match &place {
        Some(f) if followed => format!("{rate} of live heap, allocated by {}", f.function),
        Some(f) => format!("{rate} of live heap, likely allocated by {}", f.function),
        None => format!("{rate} of live heap in {}", listed(&names)),
    };
    let evidence = evidence(&parts, &total, module);
    let sites = parts.first().map_or(SitesBy::Nothing, |p| p.sites);
    Finding {
        rule: super::NAME,
        verdict: Verdict::Suspect,
        subject: match (first, grown, parts.first().map(|p| &p.what)) {
            (Some(c), _, _) => Subject::Site(c.id.clone()),
            (None, Some(_), _) => Subject::Type(type_name.clone().unwrap_or_default()),
            (None, None, Some(PartOf::Class { size, .. })) => Subject::SizeClass(*size),
            (None, None, _) => Subject::SizeClass(None),
        },
        title,
        stack: first.map(|c| c.stack.clone()).unwrap_or_default(),
        code: places.cloned(),
        cause: first.map(|c| c.cause),
        confidence: 1.0 - total.p,
        advice: advice(first.map(|c| c.cause), sites, grown.is_some()).to_owned(),
        type_name,
        live,
        place,
        growth: Growth::Heap { slope, total, parts },
        evidence,
        related: Vec::new(),
    }
}

fn evidence(parts: &[HeapPart], total: &HeapTrend, module: Option<&str>) -> Vec<String> {
    let mut said = vec![format!(
        "what lives after GC grows {} over {} GC cycles ({} after warm-up)",
        figures::byte_rate(total.slope.per_unit),
        total.cycles,
        figures::duration(total.span_s)
    )];
    for p in parts {
        let place = p.candidates.first().and_then(|c| own::place(&c.stack, module));
        let of = match (&p.what, place) {
            (PartOf::Site(_), Some(f)) => format!("what {} allocated and still lives", f.function),
            _ => p.name(),
        };
        said.push(format!(
            "{of} grew from {} to {}: {} of the growth",
            figures::bytes(p.first_bytes),
            figures::bytes(p.last_bytes),
            figures::percent(p.share.min(1.0))
        ));
        if let PartOf::Site(live) = &p.what {
            said.push(format!("{} of it live, by a sample of them", objects(live)));
            continue;
        }
        for t in &p.types {
            said.push(match t.slope {
                Some(slope) => format!(
                    "{}: {} live, {}",
                    t.names.join(" or "),
                    objects(&t.live),
                    figures::byte_rate_interval(slope.per_unit, slope.low, slope.high)
                ),
                None => format!("most of them are {}: {} live", t.names.join(" or "), objects(&t.live)),
            });
        }
        for t in &p.types {
            said.extend(t.made_per_s.map(|rate| {
                let made = figures::event_rate(rate);
                format!("{} is made {made}, counted at each call that makes it", t.names.join(" or "))
            }));
        }
        if let SitesBy::Windows { opened, open_s } = p.sites {
            said.push(format!(
                "who keeps them was looked at in {}, {} in all, by probes on the allocator",
                figures::counted(opened, "moment"),
                figures::short_time(open_s)
            ));
        }
        for (i, c) in p.candidates.iter().take(3).enumerate() {
            let frame = own::place(&c.stack, module);
            if let Some(live) = &c.live {
                said.push(format!(
                    "{} keeps {} of the growth, {} {}",
                    frame.map(|f| f.function.clone()).unwrap_or_default(),
                    figures::percent(c.share.min(1.0)),
                    objects(live),
                    if live.objects_stderr < 0.5 {
                        "by following each of them"
                    } else {
                        "by a sample of them"
                    }
                ));
                continue;
            }
            if let Some(Seen { kept, of, within: Interval { low, high } }) = c.seen {
                said.push(format!(
                    "{} made {kept} of the {of} {} that were seen to be kept: {} of them ({:.0}..{:.0} %, 95 %)",
                    frame.map(|f| f.function.clone()).unwrap_or_default(),
                    p.size_name(),
                    figures::percent(c.share),
                    100.0 * low,
                    100.0 * high
                ));
                continue;
            }
            said.push(format!(
                "{}{} makes {} of the {}, {} while {} stay",
                if i == 0 { "" } else { "also " },
                frame.map(|f| f.function.clone()).unwrap_or_default(),
                figures::percent(c.share),
                p.size_name(),
                figures::event_rate(c.objects_per_s),
                figures::event_rate(p.objects_per_s)
            ));
        }
    }
    if parts.iter().all(|p| p.candidates.is_empty()) {
        let types = || parts.iter().flat_map(|p| &p.types);
        let told: Vec<String> = types()
            .filter_map(|t| code::sentence(t.places.as_ref()?, "allocates", &t.names.join(" or "), module))
            .collect();
        let none = told.is_empty();
        said.extend(told);
        said.extend(parts.first().filter(|_| none).map(|p| {
            match p.sites {
                SitesBy::Nothing => "which code allocates them needs --sampler all",
                SitesBy::Count => "no counted site allocates in these classes since attach",
                SitesBy::Sample => "too few of them are in the sample to name a site yet",
                SitesBy::Windows { .. } => {
                    "no call stood out in the moments in which the allocator was probed"
                }
            }
            .to_owned()
        }));
    }
    said
}

/// "65 542 objects", "65 542 objects (63 190..67 894, 95 %)", "65 542 objects ±1 200".
fn objects(live: &Live) -> String {
    let counted = figures::counted(live.objects.round() as u64, "object");
    if let Some(LiveWithin { objects, .. }) = live.within {
        let end = |end: f64| figures::count(end.round() as u64);
        return format!("{counted} ({}..{}, 95 %)", end(objects.low), end(objects.high));
    }
    match live.objects_stderr.round() as u64 {
        0 => counted,
        error => format!("{counted} ±{}", figures::count(error)),
    }
}

impl HeapPart {
    /// "main.session", "objects of 96 B", "objects of one site".
    pub(in crate::analyze) fn name(&self) -> String {
        match self.types.as_slice() {
            [] => self.size_name(),
            [one] => format!("{} ({})", one.names.join(" or "), self.size_name()),
            [first, ..] => format!("{} and others ({})", first.names.join(" or "), self.size_name()),
        }
    }

    /// "objects of 96 B", "large objects".
    pub(in crate::analyze) fn size_name(&self) -> String {
        match &self.what {
            PartOf::Class { size: Some(size), .. } => format!("objects of {}", figures::bytes(*size)),
            PartOf::Class { size: None, .. } => "large objects".to_owned(),
            PartOf::Site(_) => "objects of one site".to_owned(),
        }
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] if rest.len() == 1 => format!("{first} and {}", rest[0]),
        [first, rest @ ..] => format!("{first} and {} others", rest.len()),
    }
}

fn advice(cause: Option<Cause>, sites: SitesBy, type_known: bool) -> &'static str {
    match cause {
        None if type_known => "find what keeps them: a map, slice or list that is only ever added to",
        None if sites == SitesBy::Nothing => "run with --sampler all to see which code allocates them",
        None => "watch longer: what grows was allocated before attach or is not counted",
        Some(Cause::MapAssign | Cause::MapGrowth | Cause::MakeMap) => {
            "delete entries when they are done with, or bound the map"
        }
        Some(Cause::AppendGrowth) => "bound the slice, or copy out what is still needed",
        Some(Cause::Closure | Cause::Timer) => "stop what keeps the callbacks registered",
        Some(_) => "find what keeps them: a map, slice or list that is only ever added to",
    }
}
