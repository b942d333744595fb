//! Whether something grows: a straight line through points, by least squares, and how far points lie from it.

use serde::Serialize;

/// A line through points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// Growth for each unit of x.
    pub slope: f64,
    /// The slope's standard error: what the scatter of the points leaves open.
    pub slope_error: f64,
    /// The value at x = 0.
    pub intercept: f64,
    /// Standard deviation of the points around the line.
    pub spread: f64,
    /// How many points.
    pub points: usize,
}

/// The line through `points`; `None` with fewer than three, or if all have one x.
pub fn line(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let xx: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    if xx <= f64::EPSILON {
        return None;
    }
    let xy: f64 = points
        .iter()
        .map(|(x, y)| (x - x_mean) * (y - y_mean))
        .sum();
    let slope = xy / xx;
    let intercept = y_mean - slope * x_mean;
    let residual = |(x, y): &(f64, f64)| (y - intercept - slope * x).powi(2);
    let variance = points.iter().map(residual).sum::<f64>() / (n - 2.0);
    Some(Line {
        slope,
        slope_error: (variance / xx).sqrt(),
        intercept,
        spread: variance.sqrt(),
        points: points.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_have_no_spread() {
        let line = line(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0), (5.0, 15.0)]).expect("a line");
        assert!((line.slope - 2.0).abs() < 1e-9 && (line.intercept - 5.0).abs() < 1e-9);
        assert!(line.spread < 1e-9 && line.slope_error < 1e-9);
    }

    #[test]
    fn scatter_is_told() {
        // By hand: the residuals are -0.5, 0.5, 0.5, -0.5, so the variance is 1 / 2, and xx is 5.
        let line = line(&[(0.0, 0.0), (1.0, 1.0), (2.0, 1.0), (3.0, 0.0)]).expect("a line");
        assert!((line.slope).abs() < 1e-9);
        assert!((line.spread - 0.5_f64.sqrt()).abs() < 1e-9);
        assert!((line.slope_error - 0.1_f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn too_few_points_have_no_line() {
        assert_eq!(line(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(line(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
