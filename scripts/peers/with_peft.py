"""transformers' Trainer with peft's LoRA on the projections of attention, and a linear classifier on the mean."""

import torch
from handed import Task

from transformers import AutoModel, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments  # isort: skip
from peft import LoraConfig, get_peft_model


class Classifier(torch.nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        encoder = AutoModel.from_pretrained(task.model, add_pooling_layer=False)
        found = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "key", "value"])
        self.encoder = get_peft_model(encoder, found)
        self.head = torch.nn.Linear(encoder.config.hidden_size, task.num_classes)

    def forward(self, input_ids, attention_mask, labels=None, **_):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        scores = self.head((hidden * mask).sum(1) / mask.sum(1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(scores, labels)
        return {"loss": loss, "logits": scores}


def main() -> None:
    task = Task()
    tokenizer = AutoTokenizer.from_pretrained(task.model)
    parts = {}
    for part in ("train", "val", "test"):
        texts, labels = task.texts(part)
        parts[part] = [
            {**tokenizer(text, truncation=True), "labels": label} for text, label in zip(texts, labels, strict=True)
        ]
    arguments = TrainingArguments(
        str(task.folder / "trainer"), num_train_epochs=task.epochs, per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=task.batch_size, learning_rate=task.lr, weight_decay=task.weight_decay,
        lr_scheduler_type="cosine", warmup_steps=0.05, max_grad_norm=0.0, train_sampling_strategy="group_by_length",
        eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True,
        metric_for_best_model="accuracy", report_to="none", disable_tqdm=True, use_cpu=True, seed=task.seed,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        Classifier(task), arguments, DataCollatorWithPadding(tokenizer), parts["train"], parts["val"],
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
    )  # fmt: skip
    with task.fit():
        trainer.train()
    found = trainer.predict(parts["test"])
    task.answer(found.predictions.argmax(1).tolist(), found.label_ids.tolist())


if __name__ == "__main__":
    main()
