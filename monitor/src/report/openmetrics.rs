//! The metrics as OpenMetrics 1.0 text: what the `prometheus` crate has no encoder for. Of the text format it differs in the
//! names of counters' families, in how bounds are written, and in its end, by which a client sees that it has got all.
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>

use std::fmt::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// What each counter's samples end with, and its family does not.
const TOTAL: &str = "_total";

/// All families, as one exposition.
pub fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        encode_family(family, &mut text);
    }
    text.push_str("# EOF\n");
    text
}

fn encode_family(family: &MetricFamily, text: &mut String) {
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (family.name().strip_suffix(TOTAL).unwrap_or(family.name()), "counter"),
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => (family.name(), "unknown"),
    };
    let _ = writeln!(text, "# TYPE {name} {kind}");
    let _ = writeln!(text, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => sample(text, name, TOTAL, metric, None, metric.get_counter().get_value()),
            MetricType::GAUGE => sample(text, name, "", metric, None, metric.get_gauge().get_value()),
            MetricType::HISTOGRAM => histogram(text, name, metric),
            // There is none.
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
}

fn histogram(text: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let (count, sum) = (histogram.get_sample_count() as f64, histogram.get_sample_sum());
    for bucket in histogram.get_bucket() {
        sample(text, name, "_bucket", metric, Some(bucket.upper_bound()), bucket.cumulative_count() as f64);
    }
    sample(text, name, "_bucket", metric, Some(f64::INFINITY), count);
    sample(text, name, "_count", metric, None, count);
    sample(text, name, "_sum", metric, None, sum);
}

fn sample(text: &mut String, name: &str, suffix: &str, metric: &Metric, bound: Option<f64>, value: f64) {
    let _ = write!(text, "{name}{suffix}");
    let labels = metric.get_label().iter().map(|label: &LabelPair| (label.name(), escaped(label.value())));
    let bound =
        bound.map(|bound| ("le", if bound.is_finite() { format!("{bound:?}") } else { "+Inf".into() }));
    let mut separator = '{';
    for (name, value) in labels.chain(bound) {
        let _ = write!(text, "{separator}{name}=\"{value}\"");
        separator = ',';
    }
    let close = if separator == ',' { "}" } else { "" };
    let _ = writeln!(text, "{close} {value}");
}

/// What would end a string within one.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use prometheus::proto::{Counter, Gauge};

    use super::*;

    #[test]
    fn what_would_end_a_label_is_escaped() {
        let mut label = LabelPair::default();
        label.set_name("device".into());
        label.set_value("a\"} 7\n\\".into());
        let mut metric = Metric::from_label(vec![label]);
        let mut gauge = Gauge::default();
        gauge.set_value(1.0);
        metric.set_gauge(gauge);
        let mut family = MetricFamily::default();
        family.set_name("x_info".into());
        family.set_help("Says \"x\".".into());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(vec![metric]);
        let wanted = "# TYPE x_info gauge\n# HELP x_info Says \\\"x\\\".\nx_info{device=\"a\\\"} 7\\n\\\\\"} 1\n# EOF\n";
        assert_eq!(encode(&[family]), wanted);
    }

    #[test]
    fn a_counter_is_a_family_without_total() {
        let mut metric = Metric::default();
        let mut counter = Counter::default();
        counter.set_value(3.0);
        metric.set_counter(counter);
        let mut family = MetricFamily::default();
        family.set_name("x_total".into());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(vec![metric]);
        assert_eq!(encode(&[family]), "# TYPE x counter\n# HELP x \nx_total 3\n# EOF\n");
    }
}
