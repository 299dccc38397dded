"use strict";
const boxes = [...document.querySelectorAll("input[data-shows]")];
const filter = () => {
  const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.shows));
  for (const finding of document.querySelectorAll("[data-status]")) finding.hidden = !shown.has(finding.dataset.status);
  for (const group of document.querySelectorAll("[data-group]")) {
    group.hidden = ![...group.querySelectorAll("[data-status]")].some((finding) => !finding.hidden);
  }
};
for (const box of boxes) box.addEventListener("change", filter);
filter();
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "selected";
    }
  });
}
// On paper what was folded is wanted as well.
const folded = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) { folded.push(details); details.open = true; }
});
addEventListener("afterprint", () => { for (const details of folded.splice(0)) details.open = false; });
