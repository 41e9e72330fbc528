"""The ten-line change in other people's loops: plain PyTorch with accelerate, Lightning, Hugging Face's Trainer.

Each loop is written as its users write it; the lines of memfast are marked.
"""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import memfast

SIGNALS = torch.sin(torch.linspace(0, 6, 24) * torch.linspace(1, 3, 32)[:, None]).unsqueeze(1)


class Signals(Dataset):
    """A data set that gives each item's index beside it."""

    def __len__(self):
        return len(SIGNALS)

    def __getitem__(self, index):
        return {"x0": SIGNALS[index], "index": index}


def tiny():
    torch.manual_seed(0)
    return memfast.models.build({"kind": "mlp", "item_shape": [1, 24], "width": 64, "blocks": 1})


def late():
    return memfast.timesteps.ConfidenceInterval(low=600, high=1000)


def check(losses):
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_a_plain_diffusers_loop_with_accelerate():
    accelerate = pytest.importorskip("accelerate")
    diffusers = pytest.importorskip("diffusers")
    from memfast.integrations.diffusers import objective_from_scheduler

    accelerator = accelerate.Accelerator(cpu=True)
    model, scheduler = tiny(), diffusers.DDPMScheduler(1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(Signals(), batch_size=16, shuffle=True))
    objective = objective_from_scheduler(scheduler, timesteps=late())  # memfast
    losses, step = [], 0
    for epoch in range(60):
        for batch in loader:
            key = memfast.key(seed=0, step=step).to(accelerator.device)  # memfast
            ids = epoch * len(Signals()) + batch["index"]  # memfast: one number per draw
            noised = objective.noise(
                batch["x0"], ids, key, batch["index"]
            )  # memfast, for randint, randn_like, add_noise
            prediction = model(noised.x_t, noised.time)
            loss = objective.loss(prediction, noised)  # memfast, for mse_loss and its weight
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            step += 1
    check(losses)


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Diffusion(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.losses = tiny(), []
            self.objective = memfast.DenoisingObjective(memfast.schedules.linear(1000), timesteps=late())  # memfast

        def training_step(self, batch, _):
            key = memfast.key(seed=0, step=self.global_step).to(self.device)  # memfast
            ids = self.current_epoch * len(Signals()) + batch["index"]  # memfast
            noised = self.objective.noise(batch["x0"], ids, key, batch["index"])  # memfast
            loss = self.objective.loss(self.model(noised.x_t, noised.time), noised)  # memfast
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=3e-3)

    module = Diffusion()
    trainer = lightning.Trainer(
        max_epochs=60, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Signals(), batch_size=16, shuffle=True))
    check(module.losses)


def test_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    losses = []

    class DiffusionTrainer(transformers.Trainer):
        objective = memfast.DenoisingObjective(memfast.schedules.linear(1000), timesteps=late())  # memfast

        def compute_loss(self, model, inputs, return_outputs=False, **_):
            key = memfast.key(seed=self.args.seed, step=self.state.global_step).to(inputs["x0"].device)  # memfast
            ids = int(self.state.epoch) * len(self.train_dataset) + inputs["index"]  # memfast
            noised = self.objective.noise(inputs["x0"], ids, key, inputs["index"])  # memfast
            loss = self.objective.loss(model(noised.x_t, noised.time), noised)  # memfast
            losses.append(loss.item())
            return loss

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=60, per_device_train_batch_size=16, learning_rate=3e-3,
        lr_scheduler_type="constant", remove_unused_columns=False, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    DiffusionTrainer(model=tiny(), args=arguments, train_dataset=Signals()).train()
    check(losses)


def test_two_loops_of_one_seed_see_the_same_noise_whatever_their_order():
    """What the ids buy: the noise of a draw does not depend on the batch it came in."""
    objective, key = memfast.DenoisingObjective(memfast.schedules.linear(1000)), memfast.key(0, 7)
    ids = torch.randperm(32)
    whole = objective.noise(SIGNALS, torch.arange(32), key)
    shuffled = objective.noise(SIGNALS[ids], ids, key)
    assert torch.equal(whole.x_t[ids], shuffled.x_t)
    assert torch.equal(whole.timesteps[ids], shuffled.timesteps)
