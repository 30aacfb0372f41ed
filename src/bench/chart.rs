//! Charts as SVG text: lines over linear, logarithmic and percentile axes. Knows no page.

use plotters::prelude::*;

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As they are, from 0.
    Linear,
    /// By their logarithm; values must be above 0.
    Logarithmic,
    /// Quantiles from 0 to below 1, each further nine as far as the one before.
    Percentile,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(1e-3).log10(),
            Scale::Percentile => -(1.0 - value.min(0.999_999_9)).log10(),
        }
    }

    fn label(self, place: f64) -> String {
        match self {
            Scale::Linear => short(place),
            Scale::Logarithmic => short(10_f64.powf(place)),
            Scale::Percentile => {
                let nines = format!("{:.5}", (1.0 - 10_f64.powf(-place)) * 100.0);
                let text = nines.trim_end_matches('0').trim_end_matches('.');
                format!("{text} %")
            }
        }
    }
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called in the legend.
    pub name: String,
    /// Its points, in order of `x`.
    pub points: Vec<(f64, f64)>,
    /// True if the points themselves are marked.
    pub marked: bool,
}

/// What stands at an axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it shows, with its unit.
    pub name: &'static str,
    /// How values become places.
    pub scale: Scale,
}

/// A chart of `series`; empty text if they have no points. An error is plotters' word.
pub fn lines(title: &str, x: Axis, y: Axis, series: &[Series]) -> Result<String, String> {
    let placed = |series: &Series| -> Vec<(f64, f64)> {
        let points = series.points.iter();
        points
            .map(|(at, value)| (x.scale.place(*at), y.scale.place(*value)))
            .filter(|(at, value)| at.is_finite() && value.is_finite())
            .collect()
    };
    let all: Vec<(f64, f64)> = series.iter().flat_map(placed).collect();
    if all.is_empty() {
        return Ok(String::new());
    }
    let (left, right) = range(all.iter().map(|point| point.0), x.scale);
    let (bottom, top) = range(all.iter().map(|point| point.1), y.scale);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, 380)).into_drawing_area();
        draw(
            &area,
            title,
            (x, left, right),
            (y, bottom, top),
            series,
            &placed,
        )
        .map_err(|error| error.to_string())?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(
    area: &Area<'_>,
    title: &str,
    (x, left, right): (Axis, f64, f64),
    (y, bottom, top): (Axis, f64, f64),
    series: &[Series],
    placed: &dyn Fn(&Series) -> Vec<(f64, f64)>,
) -> Drawn {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(66)
        .build_cartesian_2d(left..right, bottom..top)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(244, 244, 244))
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(x.name)
        .y_desc(y.name)
        .x_labels(10)
        .y_labels(8)
        .x_label_formatter(&|place| x.scale.label(*place))
        .y_label_formatter(&|place| y.scale.label(*place))
        .draw()
        .map_err(|error| error.to_string())?;
    for (number, series) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points = placed(series);
        if series.marked {
            let marks = points.iter().map(|at| Circle::new(*at, 3, colour.filled()));
            chart
                .draw_series(marks)
                .map_err(|error| error.to_string())?;
        }
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(|error| error.to_string())?
            .label(&series.name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// From the lowest to the highest place, with a little room; a linear axis begins at 0.
fn range(places: impl Iterator<Item = f64>, scale: Scale) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for place in places {
        low = low.min(place);
        high = high.max(place);
    }
    if scale != Scale::Logarithmic {
        low = 0.0;
    }
    let room = ((high - low) * 0.05).max(0.01);
    match scale {
        Scale::Logarithmic => (low - room, high + room),
        Scale::Linear | Scale::Percentile => (low, high + room),
    }
}

/// A number in three digits with a letter for thousands.
fn short(value: f64) -> String {
    let (value, letter) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_svg_with_its_names_and_no_points_are_no_chart() {
        let axis = |name, scale| Axis { name, scale };
        let series = Series {
            name: "ours & theirs".to_owned(),
            points: vec![(0.0, 10.0), (0.9, 50.0), (0.999, 4000.0)],
            marked: true,
        };
        let x = axis("percentile", Scale::Percentile);
        let y = axis("latency, us", Scale::Logarithmic);
        let svg = lines("Latency", x, y, &[series]).expect("a chart");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("ours &amp; theirs") && svg.contains("latency, us"));
        assert_eq!(lines("Nothing", x, y, &[]), Ok(String::new()));
    }

    #[test]
    fn labels_are_short_and_percentiles_are_nines() {
        assert_eq!(short(12_345_678.0), "12.3M");
        assert_eq!(short(950.0), "950");
        assert_eq!(Scale::Percentile.label(2.0), "99 %");
        assert_eq!(Scale::Percentile.label(4.0), "99.99 %");
        assert_eq!(Scale::Percentile.label(0.0), "0 %");
    }
}
