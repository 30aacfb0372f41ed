package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

func workWithKafkaGo(stop context.Context, bootstrap, group, topic, assignor string) error {
	balancers := map[string]kafka.GroupBalancer{
		"range":      kafka.RangeGroupBalancer{},
		"roundrobin": kafka.RoundRobinGroupBalancer{},
	}
	members, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                group,
		Brokers:           []string{bootstrap},
		Topics:            []string{topic},
		GroupBalancers:    []kafka.GroupBalancer{balancers[assignor]},
		SessionTimeout:    6 * time.Second,
		HeartbeatInterval: 300 * time.Millisecond,
		StartOffset:       kafka.FirstOffset,
		JoinGroupBackoff:  200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	event("started")
	for {
		generation, err := members.Next(stop)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			event("refused", fmt.Sprintf("%q", err.Error()))
			continue
		}
		var partitions []int
		for _, each := range generation.Assignments[topic] {
			partitions = append(partitions, each.ID)
		}
		event("assigned", generation.ID, numbers(partitions))
		for _, each := range generation.Assignments[topic] {
			generation.Start(func(ctx context.Context) {
				readPartitionWithKafkaGo(ctx, bootstrap, topic, generation, each)
				event("revoked", generation.ID, each.ID)
			})
		}
	}
	if err := members.Close(); err != nil {
		return err
	}
	event("left")
	return nil
}

// readPartitionWithKafkaGo reads until the generation ends; the library waits for us before it joins again.
func readPartitionWithKafkaGo(ctx context.Context, bootstrap, topic string, generation *kafka.Generation, from kafka.PartitionAssignment) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:   []string{bootstrap},
		Topic:     topic,
		Partition: from.ID,
		MaxWait:   100 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(from.Offset); err != nil {
		event("refused", fmt.Sprintf("%q", err.Error()))
		return
	}
	next, committed := from.Offset, from.Offset
	commit := func() {
		if next == committed {
			return
		}
		offsets := map[string]map[int]int64{topic: {from.ID: next}}
		if err := generation.CommitOffsets(offsets); err != nil {
			event("refused", fmt.Sprintf("%q", err.Error()))
		}
		committed = next
	}
	defer commit()
	for {
		quiet, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		message, err := reader.ReadMessage(quiet)
		cancel()
		switch {
		case err == nil:
			event("record", message.Partition, message.Offset)
			if next = message.Offset + 1; next-committed >= recordsPerCommit {
				commit()
			}
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			commit()
		default:
			event("refused", fmt.Sprintf("%q", err.Error()))
			return
		}
	}
}
