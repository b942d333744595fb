//! The report as one page that loads nothing: figures, drawings, and under which conditions they were made.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::{Quantiles, RunReport, plots, text};

const STYLE: &str = "\
:root{color-scheme:light}body{font:15px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif;color:#23262b;background:#f6f7f9;margin:0}\
main{max-width:1600px;margin:0 auto;padding:24px 28px 60px}h1{font-size:25px;margin:0 0 4px}h2{font-size:17px;margin:30px 0 10px}\
.badge{display:inline-block;padding:2px 12px;border-radius:12px;font-size:15px;font-weight:600;vertical-align:3px;margin-left:10px}\
.ok{background:#dcf3e3;color:#176b34}.bad{background:#fbdfe0;color:#a11d23}\
.card{background:#fff;border:1px solid #e3e6ea;border-radius:8px;padding:14px 18px;margin:12px 0}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0}dt{color:#6a7078}dd{margin:0}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:16px 0}\
.tile{background:#fff;border:1px solid #e3e6ea;border-radius:8px;padding:10px 16px}.tile b{display:block;font-size:23px;font-weight:600}\
.tile span{color:#6a7078;font-size:13px}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(560px,1fr));gap:14px}figure{background:#fff;border:1px solid #e3e6ea;border-radius:8px;margin:0;padding:10px 12px 2px}\
figcaption{font-weight:600;padding:0 6px 2px}figcaption span{font-weight:400;font-size:13px;color:#4a4f57;margin-left:14px;white-space:nowrap}\
figcaption i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px}svg{width:100%;height:auto;display:block}\
table{border-collapse:collapse;width:100%;background:#fff}th,td{text-align:right;padding:5px 10px;border-bottom:1px solid #e9ebee;font-variant-numeric:tabular-nums}\
th{color:#6a7078;font-weight:600;font-size:13px}th:first-child,td:first-child{text-align:left}td.text,th.text{text-align:left}code{font-size:13px;overflow-wrap:anywhere}\
ul{margin:6px 0;padding-left:20px}.scroll{overflow-x:auto}";

/// The whole page.
///
/// # Errors
/// Never in practice; see [`plots::draw`].
pub fn page(report: &RunReport) -> anyhow::Result<String> {
    let name = report.conditions.settings.scenario.name();
    let (class, word) = if report.passed {
        ("ok", "passed")
    } else {
        ("bad", "failed")
    };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>weir-loadtest: {name}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>\n\
         <h1>weir-loadtest: {name}<span class=\"badge {class}\">{word}</span></h1>\n"
    );
    conditions(&mut out, report);
    list(&mut out, "Failures", &report.failures);
    list(&mut out, "Remarks", &report.remarks);
    tiles(&mut out, report);
    out.push_str("<h2>Over time</h2>\n<div class=\"plots\">\n");
    for plot in plots::of(report) {
        figure(&mut out, &plot)?;
    }
    out.push_str("</div>\n");
    streams(&mut out, report);
    latencies(&mut out, report);
    steps(&mut out, report);
    resources(&mut out, report);
    violations(&mut out, report);
    out.push_str("</main></body></html>\n");
    Ok(out)
}

fn conditions(out: &mut String, report: &RunReport) {
    out.push_str("<div class=\"card\"><dl>\n");
    for (name, value) in text::conditions(report) {
        let value = match name {
            "command" => format!("<code>{}</code>", escape(&value)),
            _ => escape(&value),
        };
        let _ = writeln!(out, "<dt>{name}</dt><dd>{value}</dd>");
    }
    out.push_str("</dl></div>\n");
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "<div class=\"card\"><b>{title}</b><ul>");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", escape(line));
    }
    out.push_str("</ul></div>\n");
}

fn tiles(out: &mut String, report: &RunReport) {
    out.push_str("<div class=\"tiles\">\n");
    for (value, label) in text::headlines(report) {
        let (value, label) = (escape(&value), escape(&label));
        let _ = writeln!(
            out,
            "<div class=\"tile\"><b>{value}</b><span>{label}</span></div>"
        );
    }
    out.push_str("</div>\n");
}

fn figure(out: &mut String, plot: &plots::Plot) -> anyhow::Result<()> {
    let _ = write!(out, "<figure><figcaption>{}", escape(plot.title));
    for series in plot
        .series
        .iter()
        .filter(|series| !series.points.is_empty())
    {
        let RGBColor(red, green, blue) = series.colour;
        let axis = if series.right { " (right axis)" } else { "" };
        let _ = write!(
            out,
            "<span><i style=\"background:rgb({red},{green},{blue})\"></i>{}{axis}</span>",
            escape(&series.label)
        );
    }
    let _ = writeln!(out, "</figcaption>{}</figure>", plots::draw(plot)?);
    Ok(())
}

fn table(out: &mut String, title: &str, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<h2>{title}</h2><div class=\"scroll\"><table><thead><tr>"
    );
    for cell in head {
        let _ = write!(out, "<th>{cell}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn streams(out: &mut String, report: &RunReport) {
    table(
        out,
        "What arrived",
        &text::STREAM_HEAD,
        &text::stream_rows(report),
    );
}

fn latencies(out: &mut String, report: &RunReport) {
    let row = |name: &str, quantiles: &Quantiles| {
        let value = |value: f64| format!("{value:.0}");
        vec![
            name.to_owned(),
            quantiles.count.to_string(),
            value(quantiles.p50),
            value(quantiles.p95),
            value(quantiles.max),
        ]
    };
    let rows: Vec<_> = text::latencies(report)
        .into_iter()
        .map(|(name, quantiles)| row(name, &quantiles))
        .collect();
    table(
        out,
        "Joins, in ms",
        &["", "joins", "median", "95 %", "max"],
        &rows,
    );
}

fn steps(out: &mut String, report: &RunReport) {
    table(out, "Steps", &text::STEP_HEAD, &text::step_rows(report));
}

fn resources(out: &mut String, report: &RunReport) {
    let rows: Vec<_> = text::resources(report)
        .into_iter()
        .map(|(name, value)| vec![name, value])
        .collect();
    table(out, "Resources", &["", ""], &rows);
}

fn violations(out: &mut String, report: &RunReport) {
    let row = |line: &super::ViolationLine| {
        vec![
            format!("{:.1} s", line.at_s),
            line.participant.clone(),
            format!("{} {}", text::kind(line.kind), line.from),
            line.rule.clone(),
            line.count.to_string(),
            line.first.clone(),
        ]
    };
    let rows: Vec<_> = report.violations.iter().map(row).collect();
    let head = ["time", "seen by", "stream", "rule", "times", "first"];
    table(out, "Broken rules", &head, &rows);
}

/// Text within HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::report;
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let mut report = report();
        report.conditions.command = "run lecture --room <script>".into();
        let page = page(&report).expect("a page");
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.matches("<svg").count() >= 4);
        assert!(page.contains("picture_id_gap"), "the violation");
    }
}
