package main

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

const recordsPerCommit = 500

// saramaMember is the handler of one membership; sarama runs one ConsumeClaim for each partition.
type saramaMember struct{ topic string }

func (m saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	event("assigned", session.GenerationID(), numbers(session.Claims()[m.topic]))
	return nil
}

func (m saramaMember) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	event("revoked", session.GenerationID(), numbers(session.Claims()[m.topic]))
	return nil
}

func (m saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	uncommitted := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-session.Context().Done():
			return nil
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			event("record", message.Partition, message.Offset)
			session.MarkMessage(message, "")
			if uncommitted++; uncommitted == recordsPerCommit {
				session.Commit()
				uncommitted = 0
			}
		case <-tick.C:
			if uncommitted > 0 {
				session.Commit()
				uncommitted = 0
			}
		}
	}
}

func workWithSarama(stop context.Context, bootstrap, group, topic, assignor string) error {
	strategies := map[string]sarama.BalanceStrategy{
		"range":      sarama.NewBalanceStrategyRange(),
		"roundrobin": sarama.NewBalanceStrategyRoundRobin(),
		"sticky":     sarama.NewBalanceStrategySticky(),
	}
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[assignor]}
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Return.Errors = true
	consumers, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		return err
	}
	go func() {
		for refusal := range consumers.Errors() {
			event("refused", fmt.Sprintf("%q", refusal.Error()))
		}
	}()
	event("started")
	for stop.Err() == nil {
		err := consumers.Consume(stop, []string{topic}, saramaMember{topic})
		// Joining is interrupted when we are told to stop in the middle of it.
		if err != nil && stop.Err() == nil {
			return err
		}
	}
	if err := consumers.Close(); err != nil {
		return err
	}
	event("left")
	return nil
}
