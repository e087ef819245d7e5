// The picture of two studies: a colour and a shape each.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("comparison-data").textContent);
  const plot = document.getElementById("plot");
  if (!plot || !window.Plotly || !data.studies.length) return;
  const SHAPES = ["circle", "square"];
  const GLYPHS = ["\u25cf", "\u25a0"];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const safe = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shade = (index) => color(`--kind-${index}`);

  const hoverText = (study, point) => [
    `<b>${safe(study.name)}</b>, trial ${point.trial}`, safe(point.label), safe(point.size),
    `${point.y.toFixed(2)}${point.baseline ? "" : ` (${safe(point.interval)} ${safe(data.metric)} against its baseline)`}`,
  ].join("<br>");

  function traces(study, index) {
    const front = study.points.filter((point) => point.line).sort((a, b) => a.x - b.x || a.y - b.y);
    const bars = study.points.filter((point) => point.bounds);
    return [
      { type: "scatter", mode: "lines", hoverinfo: "skip", opacity: 0.8, x: front.map((point) => point.x),
        y: front.map((point) => point.y), line: { shape: data.steps, color: shade(index), width: 1.5, dash: index ? "dash" : "solid" } },
      { type: "scatter", mode: "lines", hoverinfo: "skip", opacity: 0.7, line: { color: shade(index), width: 1.5 },
        x: bars.flatMap((point) => [point.x, point.x, null]), y: bars.flatMap((point) => [...point.bounds, null]) },
      { type: "scatter", mode: "markers", hovertemplate: "%{text}<extra></extra>", text: study.points.map((point) => hoverText(study, point)),
        x: study.points.map((point) => point.x), y: study.points.map((point) => point.y),
        marker: {
          symbol: study.points.map((point) => (point.baseline ? "star" : SHAPES[index])),
          size: study.points.map((point) => (point.baseline ? 15 : 10)),
          color: study.points.map((point) => (point.tied ? color("--panel") : shade(index))),
          line: { width: 2, color: study.points.map((point) => (point.tied ? shade(index) : color("--panel"))) },
        } },
    ];
  }

  function draw() {
    const axis = { gridcolor: color("--rule"), linecolor: color("--rule"), zeroline: false, tickfont: { color: color("--faint") } };
    const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") };
    // "D2": ticks at 1, 2 and 5 of every power of ten.
    const scale = data.logarithmic ? { type: "log", dtick: "D2", tickformat: ",~g" } : {};
    Plotly.react(plot, data.studies.flatMap(traces), {
      paper_bgcolor: color("--panel"), plot_bgcolor: color("--panel"), hovermode: "closest", dragmode: "zoom", font, showlegend: false,
      margin: { l: 66, r: 24, t: 24, b: 66 },
      xaxis: { ...axis, ...scale, title: { text: data.x, font: { size: 13 }, standoff: 12 } },
      yaxis: { ...axis, title: { text: data.y, font: { size: 13 } } },
      hoverlabel: { bgcolor: color("--panel"), bordercolor: color("--rule"), align: "left", font },
    }, { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
    document.getElementById("legend").replaceChildren(...data.studies.map((study, index) => {
      const entry = document.createElement("li");
      const sign = document.createElement("span");
      sign.textContent = GLYPHS[index];
      sign.style.color = shade(index);
      entry.append(sign, study.name);
      return entry;
    }));
  }

  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
