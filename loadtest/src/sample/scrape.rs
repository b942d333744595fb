//! `/metrics` of a focus, as sums by name. The text format is that of Prometheus 0.0.4.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names to values; the series of one name are added up.
pub type Sums = BTreeMap<String, f64>;

/// Where the metrics are.
#[derive(Debug, Clone)]
pub struct Scraper {
    http: reqwest::Client,
    url: String,
}

/// A scrape takes milliseconds; one that takes longer belongs to a second that is over.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Names of metrics that are kept, at most: a focus has some hundred.
const NAMES_MAX: usize = 1000;

impl Scraper {
    /// `url` is that of `/metrics`, in full.
    ///
    /// # Errors
    /// What the HTTP client needs and cannot have.
    pub fn new(url: String) -> reqwest::Result<Scraper> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Scraper { http, url })
    }

    /// What they say now; `None` without an answer.
    pub async fn read(&self) -> Option<Sums> {
        let answer = self.http.get(&self.url).send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        Some(sums(&answer.text().await.ok()?))
    }
}

fn sums(text: &str) -> Sums {
    let mut sums = Sums::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or(series);
        // Buckets overlap, and a sum of quantiles means nothing.
        if name.ends_with("_bucket") || series.contains("quantile=") {
            continue;
        }
        if let Ok(value) = value.parse::<f64>()
            && (sums.len() < NAMES_MAX || sums.contains_key(name))
        {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_name_are_added() {
        let text = "# TYPE weir_x_total counter\nweir_x_total{shard=\"0\"} 5\nweir_x_total{shard=\"1\"} 2.5\n\nweir_up 1\n\
                    weir_t_seconds_bucket{le=\"0.1\"} 3\nweir_t_seconds_count 4\nnonsense\n";
        let expected = [
            ("weir_x_total", 7.5),
            ("weir_up", 1.0),
            ("weir_t_seconds_count", 4.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(sums(text), Sums::from(expected));
    }
}
