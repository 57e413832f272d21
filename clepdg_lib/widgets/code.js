// Shows the call behind a view as text, and copies it where the browser allows that.
function render({ model, el }) {
  el.classList.add("clepdg");
  el.innerHTML = `<button type="button">Copy as code</button>
    <span role="status"></span><pre tabindex="0" hidden><code></code></pre>`;
  const [button, status, box] = el.children;
  const update = () => {
    el.hidden = !model.get("code");
    box.firstChild.textContent = model.get("code");
    status.textContent = "";
  };
  button.onclick = async () => {
    box.hidden = false;
    getSelection().selectAllChildren(box);
    const copied = await navigator.clipboard?.writeText(model.get("code")).then(() => true, () => false);
    status.textContent = copied ? "Copied: paste it into a cell." : "Copy the selected text.";
  };
  model.on("change:code", update);
  update();
}
export default { render };
