//! Drawings for the report, as SVG text. Pure: the same samples are the same text.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{RunReport, Sample};

/// One drawing over time.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// What its left axis counts, with the unit.
    pub y_label: &'static str,
    /// What is drawn.
    pub series: Vec<Series>,
    /// What its right axis counts, if some series belong to it.
    pub right_label: Option<&'static str>,
    /// The time of the measurement, in seconds; drawn as a lighter background.
    pub measured: Option<(f64, f64)>,
}

/// One line or cloud of points.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend.
    pub label: String,
    /// Its colour.
    pub colour: RGBColor,
    /// (Seconds, value).
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
    /// Whether it belongs to the right axis.
    pub right: bool,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Points that are connected.
    Line,
    /// A line with what is below it filled.
    Area,
    /// Points alone.
    Dots,
}

const BLUE: RGBColor = RGBColor(31, 111, 180);
const ORANGE: RGBColor = RGBColor(222, 122, 20);
const RED: RGBColor = RGBColor(200, 45, 50);
const GREEN: RGBColor = RGBColor(40, 140, 80);
const GREY: RGBColor = RGBColor(125, 130, 138);
const PURPLE: RGBColor = RGBColor(120, 80, 170);
const INK: RGBColor = RGBColor(60, 64, 70);
const GRID: RGBColor = RGBColor(228, 230, 234);
const SHADE: RGBColor = RGBColor(244, 247, 251);

/// Pixels of a drawing.
const SIZE: (u32, u32) = (760, 280);

/// All drawings that this report has something to show in.
pub fn of(report: &RunReport) -> Vec<Plot> {
    let plots = [
        join_latency(report),
        delay(report),
        rate(report),
        lost(report),
        cpu(report),
        memory(report),
    ];
    plots
        .into_iter()
        .filter(|plot| plot.series.iter().any(|series| !series.points.is_empty()))
        .collect()
}

fn plot(
    report: &RunReport,
    title: &'static str,
    y_label: &'static str,
    series: Vec<Series>,
) -> Plot {
    let mut measured = report.samples.iter().filter(|sample| sample.measured);
    let first = measured.clone().next().map(|sample| sample.at_s - 1.0);
    let last = measured.next_back().map(|sample| sample.at_s);
    Plot {
        title,
        y_label,
        series,
        right_label: None,
        measured: first.zip(last),
    }
}

fn series(
    report: &RunReport,
    label: &str,
    colour: RGBColor,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Series {
    let point = |sample: &Sample| Some((sample.at_s, value(sample)?));
    Series {
        label: label.to_owned(),
        colour,
        points: report.samples.iter().filter_map(point).collect(),
        style: Style::Line,
        right: false,
    }
}

fn join_latency(report: &RunReport) -> Plot {
    let dots = |label: &str, colour, value: fn(&super::ParticipantLine) -> Option<u64>| {
        let point = |line: &super::ParticipantLine| Some((line.at_s, value(line)? as f64));
        Series {
            label: label.to_owned(),
            colour,
            points: report.participants.iter().filter_map(point).collect(),
            style: Style::Dots,
            right: false,
        }
    };
    let series = vec![
        dots("to the first frame", ORANGE, |line| line.first_frame_ms),
        dots("to the connection", BLUE, |line| line.connected_ms),
        dots("to the answer", GREEN, |line| line.answer_ms),
    ];
    plot(report, "Joins: time from the invite", "ms", series)
}

fn delay(report: &RunReport) -> Plot {
    let of = |label, colour, value: fn(&super::Quantiles) -> f64| {
        series(report, label, colour, move |sample| {
            sample.delay_ms.as_ref().map(value)
        })
    };
    let series = vec![
        of("99 %", RED, |delay| delay.p99),
        of("95 %", ORANGE, |delay| delay.p95),
        of("half", BLUE, |delay| delay.p50),
    ];
    plot(report, "One-way delay of what arrived", "ms", series)
}

fn rate(report: &RunReport) -> Plot {
    let mut rate = series(report, "payload received", BLUE, |sample| {
        Some(sample.bps / 1e6)
    });
    rate.style = Style::Area;
    let mut packets = series(report, "packets received", GREY, |sample| {
        Some(sample.packets / 1e3)
    });
    packets.right = true;
    let mut plot = plot(
        report,
        "What all participants together receive",
        "Mbit/s",
        vec![rate, packets],
    );
    plot.right_label = Some("thousand packets/s");
    plot
}

fn lost(report: &RunReport) -> Plot {
    let lost = series(report, "packets lost for good", RED, |sample| {
        Some(sample.lost)
    });
    let any = report.samples.iter().any(|sample| sample.lost > 0.0);
    let series = any.then_some(lost).into_iter().collect();
    plot(report, "Losses", "packets/s", series)
}

fn cpu(report: &RunReport) -> Plot {
    let series = vec![
        series(report, "focus", BLUE, |sample| sample.focus_cpu),
        series(report, "its busiest thread", PURPLE, |sample| {
            sample.focus_busiest
        }),
        series(report, "generator and homeserver", GREY, |sample| {
            Some(sample.generator_cpu)
        }),
    ];
    plot(report, "CPU", "cores", series)
}

fn memory(report: &RunReport) -> Plot {
    let mut rss = series(report, "focus, resident", BLUE, |sample| {
        Some(sample.focus_rss_kib? as f64 / 1024.0)
    });
    rss.style = Style::Area;
    let mut participants = series(report, "participants", GREY, |sample| {
        Some(sample.participants as f64)
    });
    participants.right = true;
    let has_memory = !rss.points.is_empty();
    let title = match has_memory {
        true => "Memory of the focus",
        false => "Participants",
    };
    let mut plot = plot(report, title, "MiB", vec![rss, participants]);
    plot.right_label = Some("participants");
    plot
}

/// The drawing as SVG.
///
/// # Errors
/// Never in practice: the drawing goes to memory.
pub fn draw(plot: &Plot) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&area, plot).map_err(|error| anyhow::anyhow!("{}: {error}", plot.title))?;
        area.present()?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_on(area: &Area<'_>, plot: &Plot) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    area.fill(&WHITE)?;
    let x = span(plot);
    let (left, right) = (top(plot, false), top(plot, true));
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(8)
        .margin_right(if plot.right_label.is_some() { 4 } else { 18 })
        .x_label_area_size(34)
        .y_label_area_size(58);
    if plot.right_label.is_some() {
        builder.right_y_label_area_size(58);
    }
    let mut chart = builder
        .build_cartesian_2d(x.clone(), 0.0..left)?
        .set_secondary_coord(x.clone(), 0.0..right);
    if let Some((from, to)) = plot.measured {
        let corners = [(from.max(x.start), left), (to, 0.0)];
        chart.draw_series([Rectangle::new(corners, SHADE.filled())])?;
    }
    let text = ("sans-serif", 13).into_font().color(&INK);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_desc("seconds")
        .y_desc(plot.y_label)
        .x_labels(10)
        .y_labels(6)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .draw()?;
    if let Some(label) = plot.right_label {
        chart
            .configure_secondary_axes()
            .axis_style(GRID)
            .y_desc(label)
            .y_labels(6)
            .y_label_formatter(&|value: &f64| number(*value))
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()?;
    }
    for series in &plot.series {
        let points = series.points.iter().copied();
        let line = series.colour.stroke_width(2);
        match (series.style, series.right) {
            (Style::Dots, _) => {
                let dot = |point| Circle::new(point, 2.5, series.colour.mix(0.7).filled());
                chart.draw_series(points.map(dot))?;
            }
            (Style::Area, _) => {
                let fill = series.colour.mix(0.15);
                chart.draw_series(AreaSeries::new(points, 0.0, fill).border_style(line))?;
            }
            (Style::Line, false) => {
                chart.draw_series(LineSeries::new(points, line))?;
            }
            (Style::Line, true) => {
                let line = series.colour.stroke_width(1);
                chart.draw_secondary_series(LineSeries::new(points, line))?;
            }
        }
    }
    if plot.series.iter().all(|series| series.points.is_empty()) {
        let style = ("sans-serif", 14)
            .into_font()
            .color(&GREY)
            .pos(Pos::new(HPos::Center, VPos::Center));
        let (width, height) = (SIZE.0 as i32, SIZE.1 as i32);
        area.draw(&Text::new(
            "nothing to show",
            (width / 2, height / 2),
            style,
        ))?;
    }
    Ok(())
}

fn span(plot: &Plot) -> std::ops::Range<f64> {
    let times = plot
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(|(at, _)| *at));
    let end = times.fold(0.0, f64::max);
    0.0..end.max(1.0)
}

/// The upper end of an axis: a little above the highest value.
fn top(plot: &Plot, right: bool) -> f64 {
    let of_axis = plot.series.iter().filter(|series| series.right == right);
    let values = of_axis.flat_map(|series| series.points.iter().map(|(_, value)| *value));
    let highest = values.fold(0.0, f64::max);
    if highest > 0.0 { highest * 1.08 } else { 1.0 }
}

/// A number on an axis, as short as it can be read.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        whole if (whole - whole.round()).abs() < 1e-6 => format!("{value:.0}"),
        small if small < 1.0 => trimmed(format!("{value:.2}")),
        _ => trimmed(format!("{value:.1}")),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Plot {
        let series = |label: &str, style, right| Series {
            label: label.into(),
            colour: BLUE,
            points: vec![(1.0, 10.0), (2.0, 30.0), (3.0, 20.0)],
            style,
            right,
        };
        Plot {
            title: "Test",
            y_label: "ms",
            series: vec![
                series("a", Style::Line, false),
                series("b", Style::Dots, false),
                series("c", Style::Area, false),
                series("d", Style::Line, true),
            ],
            right_label: Some("people"),
            measured: Some((1.0, 3.0)),
        }
    }

    #[test]
    fn a_drawing_has_axes_with_units_and_every_series() {
        let svg = draw(&small()).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["seconds", "\nms\n", "people", "30"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let count = |what: &str| svg.matches(what).count();
        assert_eq!(count("<circle"), 3);
        assert_eq!(count("<polygon"), 1, "the area");
        // The highest value is near the upper end, 8 % below it.
        assert!((top(&small(), false) - 32.4).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let svg = draw(&small()).expect("drawn");
        assert!(!svg.contains("href") && !svg.contains("url("), "{svg}");
    }

    #[test]
    fn an_empty_drawing_says_so() {
        let mut plot = small();
        plot.series
            .iter_mut()
            .for_each(|series| series.points.clear());
        assert!(draw(&plot).expect("drawn").contains("nothing to show"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!(
            [0.0, 0.25, 1.5, 30.0, 1500.0, 25_000.0].map(number),
            ["0", "0.25", "1.5", "30", "1500", "25k"]
        );
    }
}
