//! The page of a study: one file that needs nothing else, in light and dark and on paper.

use super::analysis::{Effects, Transform, effects, shares};
use super::bars;
use super::maps::{choices, harms, short_names};
use super::palette::style;
use super::progress::{objective_names, progress};
use super::scatter::scatter;
use super::sections;
use super::svg::Svg;
use super::text::{escape, percent};
use super::{Searched, Summary};
use crate::search::{Metric, Objective, Quality};

/// The page of a study. It is also well-formed XML.
pub fn html(summary: &Summary) -> String {
    let mut body = header(&summary.title, &summary.facts);
    body += "<main>\n";
    body += &sections::figures(summary);
    body += &charts(summary);
    body += &sections::against_uniform(summary);
    body += &choice_section(summary);
    body += &effect_section(summary);
    body += &sections::finals(summary);
    body += &sections::configuration(summary);
    body += &sections::effort(summary);
    body += "</main>\n";
    body += &footer(&summary.command);
    page(&summary.title, &body)
}

/// A whole page around a body.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n\
         {body}<script>\n{}</script>\n</body>\n</html>\n",
        escape(title),
        style(),
        include_str!("page.css"),
        include_str!("page.js")
    )
}

pub(super) fn header(title: &str, facts: &[(String, String)]) -> String {
    let fact = |(label, value): &(String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(label), escape(value))
    };
    let facts: String = facts.iter().map(fact).collect();
    // An element without content would be read differently as HTML and as XML.
    let list = if facts.is_empty() { String::new() } else { format!("<dl>\n{facts}</dl>\n") };
    format!("<header><div>\n<h1>{}</h1>\n{list}</div></header>\n", escape(title))
}

pub(super) fn footer(command: &str) -> String {
    let again = match command.trim() {
        "" => String::new(),
        command => format!("<p>To make this again:</p>\n<pre>{}</pre>\n", escape(command)),
    };
    format!(
        "<footer>\n{again}<p class=\"note\">Written by anybit {}.</p>\n</footer>\n",
        env!("CARGO_PKG_VERSION")
    )
}

pub(super) fn figure(svg: &Svg, caption: &str) -> String {
    let caption = match caption {
        "" => String::new(),
        caption => format!("<figcaption>{}</figcaption>", escape(caption)),
    };
    format!("<figure>{}{caption}</figure>\n", svg.inline())
}

/// A figure that scrolls sideways rather than shrink, where it has to.
fn wide_figure((svg, too_wide): &(Svg, bool)) -> String {
    match too_wide {
        true => format!("<figure class=\"wide\">{}</figure>\n", svg.inline_fixed()),
        false => figure(svg, ""),
    }
}

fn charts(summary: &Summary) -> String {
    let size = Metric::Size(summary.size());
    let (kl, loss) = (Metric::Quality(Quality::Kl), Metric::Quality(Quality::Loss));
    let (first, second) = match summary.quality() {
        Quality::Kl => (kl, loss),
        Quality::Loss => (loss, kl),
        Quality::Error => (Metric::Quality(Quality::Error), kl),
    };
    let mut text =
        format!("<h2>Trials</h2>\n<p class=\"note\">Objective: {}, minimised.", escape_list(summary));
    text += " Point at a mark for its trial; click a name above a chart to hide its trials.</p>\n<div class=\"grid\">\n";
    text += &figure(&progress(summary), "");
    text += &figure(&scatter(summary, size, first), "");
    text += &figure(&scatter(summary, size, second), "");
    if summary.measured().any(|(_, m)| m.latency.is_some()) {
        text += &figure(&scatter(summary, Metric::Latency, first), "");
    }
    text + "</div>\n"
}

fn escape_list(summary: &Summary) -> String {
    objective_names(summary).iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ")
}

fn choice_section(summary: &Summary) -> String {
    let mut text = String::from("<h2>Which layer has which format</h2>\n");
    let Some((map, left_out)) = choices(summary) else {
        return text + "<p>No trial is chosen yet.</p>\n";
    };
    text += &format!("<p class=\"note\">The chosen trials from small to large{}.", prefix_note(summary));
    if left_out > 0 {
        text += &format!(" {left_out} more of the front are not shown.");
    }
    text += "</p>\n";
    text + &wide_figure(&map.draw())
}

fn prefix_note(summary: &Summary) -> String {
    match short_names(summary).1.as_str() {
        "" => String::new(),
        prefix => format!("; names of layers without “{}”", escape(prefix)),
    }
}

/// The additive models of the quality and of each objective.
fn effect_section(summary: &Summary) -> String {
    let mut text = String::from("<h2>What single choices do</h2>\n");
    let quality = summary.quality();
    let of_quality = fit(summary, &|_, m| Some(quality.value(m)));
    match &of_quality {
        Err(why) => text += &format!("<p>No sensitivities: {}.</p>\n", escape(why)),
        Ok(fitted) => {
            let scale = match fitted.transform {
                Transform::Identity => "the sum",
                Transform::Log => "the product",
            };
            let name = Metric::Quality(quality);
            text += &format!(
                "<p class=\"note\">Sensitivity: {name} as {scale} of what each layer’s choice does, by ridge regression over {} \
                 different trials; it explains {} of the variance of trials it has not seen{}. What \
                 is not above 3.5 standard errors is drawn as no harm; blank: never tried.</p>\n",
                fitted.trials,
                percent(fitted.explained),
                if fitted.transform == Transform::Log { format!(" (of ln {name})") } else { String::new() },
            );
            text += &wide_figure(&harms(summary, fitted).draw());
        }
    }
    text + &importance(summary, of_quality)
}

/// `of_quality` is the model of the quality, which is mostly an objective too.
fn importance(summary: &Summary, of_quality: Result<Effects, String>) -> String {
    let mut text = String::from("<h2>Which layers matter</h2>\n");
    let names = summary.objective.names();
    let quality = Metric::Quality(summary.quality()).to_string();
    let mut panels = Vec::new();
    let mut notes = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if let Some(shares) = size_importance(summary, i) {
            panels.push((name.clone(), shares));
            continue;
        }
        let fitted = match name == &quality {
            true => of_quality.clone(),
            false => fit(summary, &|trial, _| trial.values.get(i).copied()),
        };
        match fitted {
            Ok(fitted) => {
                let scale = if fitted.transform == Transform::Log { "ln " } else { "" };
                panels.push((format!("{scale}{name}"), fitted.importance));
            }
            Err(why) => notes.push(format!("{name}: {why}.")),
        }
    }
    if !panels.is_empty() {
        text += "<p class=\"note\">Share of each layer in the variance of the objective that single choices cause, every \
                 candidate equally likely: main effects as in fANOVA (Hutter, Hoos and Leyton-Brown 2014), of the additive \
                 model. Those of sizes are exact.</p>\n";
        text += &figure(&bars::importance(&short_names(summary).0, &panels), "");
    }
    if !notes.is_empty() {
        text += &format!("<p>No importance of {}</p>\n", escape(&notes.join(" ")));
    }
    text
}

/// Sizes add up, so that their variance is known; `None` for other objectives.
fn size_importance(summary: &Summary, objective: usize) -> Option<Vec<f64>> {
    let Objective::Metrics(metrics) = &summary.objective else { return None };
    let Metric::Size(size) = metrics.get(objective)? else { return None };
    let sizes = |dimension: &Searched| -> Option<Vec<f64>> {
        (0..dimension.candidates.len()).map(|choice| dimension.size(choice, *size)).collect()
    };
    let sizes: Vec<Vec<f64>> = summary.dimensions.iter().map(sizes).collect::<Option<_>>()?;
    (!sizes.is_empty()).then(|| shares(&sizes))
}

type Value<'a> = &'a dyn Fn(&super::Trial, &super::Measurement) -> Option<f64>;

fn fit(summary: &Summary, value: Value<'_>) -> Result<Effects, String> {
    let measured: Vec<(&[usize], f64)> = summary
        .measured()
        .filter_map(|(trial, m)| Some((trial.point.as_slice(), value(trial, m)?)))
        .collect();
    let points: Vec<&[usize]> = measured.iter().map(|d| d.0).collect();
    let values: Vec<f64> = measured.iter().map(|d| d.1).collect();
    let choices: Vec<usize> = summary.dimensions.iter().map(|d| d.candidates.len()).collect();
    effects(&points, &values, &choices)
}
